package nfstest_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"rubus/nfsexport/nfstest"
)

// What the suite runs on besides a local overlay, where every check passes.
const (
	rubus   = "rubus"
	nfsd    = "kernel nfsd"
	ganesha = "nfs-ganesha"
)

var (
	all    = []string{rubus, nfsd, ganesha}
	others = []string{nfsd, ganesha}
)

// differences are the checks that fail, where, and why.
var differences = []struct {
	check   string
	targets []string
	reason  string
}{
	{
		"times/nanoseconds on every kind",
		[]string{ganesha},
		"the times of a symbolic link cannot be set",
	},
	{
		"times/omit and now on every kind",
		[]string{ganesha},
		"the times of a symbolic link cannot be set",
	},
	{
		"set-id/cleared by truncate", others,
		"somebody who is not the owner cuts off a setuid file, and it stays setuid",
	},
	{
		"golden/removed while listed, across a restart", others,
		"READDIR goes on by an overlay's offsets, which move when entries go: 983 of 2,005 names are passed over",
	},
	{
		"beyond/links of an unlinked file", all,
		"the client gives an open file that is unlinked another name (.nfs...), as NFSv3 knows no open files",
	},
	{
		"beyond/times before 1970 and after 2106", all,
		"times have 32 bits (RFC 1813 section 2.5, nfstime3)",
	},
	{
		"beyond/one time to now is the owner's", all,
		"SETATTR to the server's time does not tell `touch -m` from a program that sets both",
	},
	{
		"beyond/rename without replacing", all,
		"RENAME has no flags: the client says EINVAL",
	},
	{
		"beyond/space ahead", all,
		"no procedure for fallocate(2): the client says EOPNOTSUPP",
	},
	{
		"beyond/unnamed file", all,
		"no procedure for O_TMPFILE: the client says EOPNOTSUPP",
	},
	{
		"beyond/extended attributes", all,
		"no procedures for extended attributes, so none for file capabilities either: the client says EOPNOTSUPP",
	},
	{
		"wire/guard",
		[]string{nfsd},
		"the guard of SETATTR is compared in seconds",
	},
	{
		"wire/bad and stale handles",
		[]string{nfsd},
		"a file that is removed can be used while nfsd keeps it open; a handle of no bytes is GARBAGE_ARGS",
	},
	{
		"wire/procedures on other kinds",
		[]string{nfsd},
		"READLINK of a directory is ISDIR, where RFC 1813 section 3.3.5 knows INVAL only",
	},
	{
		"wire/names that no directory has",
		[]string{nfsd},
		"a name of no bytes is GARBAGE_ARGS",
	},
	{
		"wire/listings",
		[]string{nfsd},
		"replies to READDIR are longer than the client has room for, by up to 92 bytes; TOOSMALL is not said",
	},
	{
		"wire/calls that are not",
		[]string{nfsd},
		"AUTH_NONE is taken, as nobody",
	},
}

// expected are the checks that fail on a target.
func expected(target string) map[string]bool {
	failing := map[string]bool{}
	for _, d := range differences {
		if slices.Contains(d.targets, target) {
			failing[d.check] = true
		}
	}
	return failing
}

// TestDifferences: nothing fails on our server that passes on the kernel's, and
// what fails is in the documentation. That the list is true is for TestKernelClient,
// TestKernelServer and TestGanesha to say.
func TestDifferences(t *testing.T) {
	names := append(nfstest.CheckNames(), wireNames()...)
	table := "| check | " + strings.Join(all, " | ") + " | why it fails |\n|---|---|---|---|---|\n"
	for _, d := range differences {
		if !slices.Contains(names, d.check) {
			t.Errorf("there is no check %q", d.check)
		}
		if slices.Contains(d.targets, rubus) && !slices.Contains(d.targets, nfsd) {
			t.Errorf("%q fails on rubus and passes on the kernel's server", d.check)
		}
		table += "| " + d.check
		for _, target := range all {
			verdict := "passes"
			switch {
			case slices.Contains(d.targets, target):
				verdict = "fails"
			case target == ganesha && strings.HasPrefix(d.check, "wire/"):
				verdict = "–"
			}
			table += " | " + verdict
		}
		table += " | " + d.reason + " |\n"
	}
	table += fmt.Sprintf("\n%d checks in all.\n", len(names))
	const doc = "../../docs/nfs.md"
	b, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), table) {
		t.Errorf("%s does not have the list of differences as it is:\n%s", doc, table)
	}
}

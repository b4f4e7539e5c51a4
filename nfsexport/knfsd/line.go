package knfsd

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"rubus/nfsexport"
)

// line is one export to one client, as exports(5) has it.
type line struct {
	path   string
	client netip.Addr
	id     nfsexport.ID
	// insecure lets calls come from ports of 1024 and above.
	insecure bool
	// held makes calls wait.
	held bool
}

// brand begins the fsid of all exports of ours: "rubus" and zeros.
const brand = "7275627573000000"

// fsid is what stands for the export in handles: 16 bytes in hex.
func fsid(id nfsexport.ID) string { return brand + id.String() }

// uuid is an fsid as exports(5) has it.
func uuid(fsid string) string {
	return fsid[:8] + ":" + fsid[8:16] + ":" + fsid[16:24] + ":" + fsid[24:]
}

// clientName names one address as a network: a host would be looked up in DNS.
func (l line) clientName() string { return l.client.String() + "/32" }

// options are those for exportfs. A hold names a directory of ours that is
// never a mount point.
func (l line) options(never string) string {
	port, mount := "secure", "mountpoint"
	if l.insecure {
		port = "insecure"
	}
	if l.held {
		mount += "=" + never
	}
	return "rw,sync,no_subtree_check,no_root_squash," + port + "," + mount + ",fsid=" + uuid(fsid(l.id))
}

// safePath says that a path is the same in exports(5), on a kernel's command line
// and in the kernel's tables.
func safePath(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.ContainsFunc(p, func(r rune) bool {
		return !strings.ContainsRune("/._-", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// fileHead is the beginning of the file of exports.
const fileHead = `# The roots that rubus exports. It writes this file; see nfs.backend in rubus.yaml.
`

// format makes the file of exports.
func format(lines []line, never string) []byte {
	slices.SortFunc(lines, compare)
	var b bytes.Buffer
	b.WriteString(fileHead)
	for _, l := range lines {
		fmt.Fprintf(&b, "%s %s(%s)\n", l.path, l.clientName(), l.options(never))
	}
	return b.Bytes()
}

func compare(a, b line) int {
	if c := strings.Compare(a.path, b.path); c != 0 {
		return c
	}
	return a.client.Compare(b.client)
}

// parse reads exports(5), or what exportfs -s prints: those lines that are ours,
// by their fsid and by where they lie. foreign counts the others.
func parse(text []byte, roots string) (ours []line, foreign int) {
	s := bufio.NewScanner(bytes.NewReader(text))
	for s.Scan() {
		text, _, _ := strings.Cut(s.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		l, ok := parseLine(f, roots)
		if !ok {
			foreign++
			continue
		}
		ours = append(ours, l)
	}
	return ours, foreign
}

func parseLine(f []string, roots string) (l line, ok bool) {
	if len(f) != 2 || !strings.HasPrefix(f[0], roots+"/") {
		return l, false
	}
	client, options, ok := strings.Cut(strings.TrimSuffix(f[1], ")"), "(")
	if !ok {
		return l, false
	}
	addr, single := strings.CutSuffix(client, "/32")
	l.path = f[0]
	var err error
	if l.client, err = netip.ParseAddr(addr); err != nil || !single {
		return l, false
	}
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "insecure":
			l.insecure = true
		case "mountpoint", "mp":
			l.held = value != ""
		case "fsid":
			number, ours := strings.CutPrefix(strings.ReplaceAll(value, ":", ""), brand)
			n, err := strconv.ParseUint(number, 16, 64)
			if !ours || err != nil || len(number) != 16 {
				return l, false
			}
			l.id = nfsexport.ID(n)
		}
	}
	return l, l.id != 0
}

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// house says which of our packages a package may import outside of its tests.
// Every package has a row: whoever adds one decides here what it stands on.
// Imports go one way, from the command to the vocabulary.
func house() map[string][]string {
	return map[string][]string{
		// The command is the tree of verbs; nobody imports it. Its rooms do not import
		// each other: what verbs share is in cmd/internal/cli.
		"cmd/rubus": {
			"boot", "boot/eeprom", "boot/fakepi", "boot/fakepi/nic", "boot/pidhcp", "boot/quota", "boot/sdcard", "boot/writes",
			"cmd/internal/backupcmd", "cmd/internal/buildinfo", "cmd/internal/cli", "cmd/internal/control", "cmd/internal/devicecmd", "cmd/internal/doctor", "cmd/internal/imagecmd", "cmd/internal/ports", "cmd/internal/servecmd", "cmd/internal/simulatecmd", "cmd/internal/ui",
			"config", "config/device", "config/schema",
			"images", "images/share",
			"overlay",
		},
		"cmd/internal/backupcmd": {
			"boot", "boot/backup", "boot/phase", "boot/writes",
			"cmd/internal/buildinfo", "cmd/internal/cli", "cmd/internal/control", "cmd/internal/progress", "cmd/internal/ui",
			"config", "config/device", "config/leftover",
			"images/archive", "images/imageref", "images/upper",
			"nfsexport",
		},
		"cmd/internal/cli": {"boot/batch", "cmd/internal/control", "cmd/internal/progress", "cmd/internal/ui", "config", "config/device", "images", "images/imageref", "boot/writes"},
		// "rubus device": a room for what its verbs are about.
		"cmd/internal/devicecmd":           {"cmd/internal/cli", "cmd/internal/devicecmd/changecmd", "cmd/internal/devicecmd/entrycmd", "cmd/internal/devicecmd/keycmd", "cmd/internal/devicecmd/rebasecmd", "cmd/internal/devicecmd/showcmd", "cmd/internal/devicecmd/statecmd"},
		"cmd/internal/devicecmd/changecmd": {"boot", "boot/identity", "boot/record", "boot/writes", "cmd/internal/cli", "cmd/internal/control", "cmd/internal/progress", "cmd/internal/showdiff", "cmd/internal/ui", "config/device", "images", "images/golden", "images/imageref", "images/layered", "images/sysdiff", "images/treediff", "images/treesum", "images/upper"},
		"cmd/internal/devicecmd/entrycmd":  {"cmd/internal/cli", "cmd/internal/control", "cmd/internal/ui", "config/device", "config/edit"},
		"cmd/internal/devicecmd/keycmd":    {"boot", "boot/record", "boot/writes", "cmd/internal/cli", "cmd/internal/ui", "config/device"},
		"cmd/internal/devicecmd/rebasecmd": {"boot", "boot/batch", "boot/carry", "boot/writes", "cmd/internal/cli", "cmd/internal/control", "cmd/internal/progress", "cmd/internal/ui", "config/device", "images", "images/imageref", "images/rebase"},
		"cmd/internal/devicecmd/showcmd":   {"boot", "boot/flight", "cmd/internal/cli", "cmd/internal/control", "cmd/internal/devicecmd/keycmd", "cmd/internal/ui", "config", "config/device", "images/imageref"},
		"cmd/internal/devicecmd/statecmd":  {"cmd/internal/cli", "cmd/internal/control", "cmd/internal/devicecmd/entrycmd", "cmd/internal/ui", "config/device", "config/edit"},
		"cmd/internal/imagecmd": {
			"boot", "boot/record",
			"cmd/internal/cli", "cmd/internal/progress", "cmd/internal/showdiff", "cmd/internal/ui",
			"config",
			"images", "images/editor", "images/imageref", "images/importer", "images/importer/layer", "images/layered", "images/oci", "images/rules", "images/share", "images/sysdiff",
		},
		"cmd/internal/servecmd": {
			"boot", "boot/backup", "boot/batch", "boot/bootfs", "boot/dhcpserver", "boot/flight", "boot/identity", "boot/neigh", "boot/netconsole", "boot/netwatch", "boot/phase", "boot/pidhcp", "boot/proxydhcp", "boot/quota", "boot/record", "boot/rollout", "boot/sighting", "boot/survivors", "boot/tftp", "boot/writes",
			"cmd/internal/buildinfo", "cmd/internal/cli", "cmd/internal/control", "cmd/internal/lograte", "cmd/internal/ports", "cmd/internal/threads", "cmd/internal/ui",
			"config", "config/boardtext", "config/device", "config/watch",
			"images", "images/imageref", "images/upper",
			"nfsexport", "nfsexport/handlefs", "nfsexport/knfsd", "nfsexport/mount3", "nfsexport/nfs3", "nfsexport/sunrpc", "nfsexport/unfsd",
			"overlay",
		},
		"cmd/internal/simulatecmd": {
			"boot", "boot/bootfs", "boot/bootset", "boot/fakepi", "boot/fakepi/child", "boot/fakepi/emulator", "boot/fakepi/nic", "boot/writes",
			"cmd/internal/capture", "cmd/internal/cli", "cmd/internal/simnet", "cmd/internal/ui",
			"config", "config/device",
			"images", "images/imageref", "images/layered",
			"overlay",
		},
		"cmd/internal/showdiff":  {"cmd/internal/cli", "cmd/internal/progress", "cmd/internal/ui", "images/dpkg", "images/layered", "images/sysdiff", "images/treediff"},
		"cmd/internal/buildinfo": {},

		"cmd/rubus/e2e":         {},
		"cmd/rubus/e2e/flow":    {},
		"cmd/rubus/e2e/harness": {"boot/fakepi/child", "boot/record", "cmd/internal/simnet", "config/device"},
		"cmd/rubus/e2e/writer":  {},
		"cmd/internal/control":  {"boot/batch", "boot/flight", "config/device", "images/imageref"},
		"cmd/internal/doctor":   {"boot/bootset", "boot/fakepi", "cmd/internal/ports"},
		"cmd/internal/capture":  {},
		"cmd/internal/lograte":  {},
		"cmd/internal/ports":    {},
		"cmd/internal/progress": {},
		"cmd/internal/simnet":   {"boot/fakepi/child", "boot/fakepi/nic", "config/device"},
		"cmd/internal/threads":  {},
		"cmd/internal/ui":       {},
		// Measures servers side by side, for scripts/bench.
		"cmd/internal/tftpbench": {"boot/bootfs", "boot/tftp"},

		// Measures the NFS server beside others.
		"cmd/nfsbench": {"cmd/internal/threads", "nfsexport", "nfsexport/handlefs", "nfsexport/mount3", "nfsexport/nfs3", "nfsexport/nfsload", "nfsexport/sunrpc", "nfsexport/unfsd", "nfsexport/xdr"},

		// Has many boards boot at once.
		"cmd/stormbench": {"boot/fakepi", "boot/fakepi/child", "boot/fakepi/nic", "cmd/internal/capture", "config/device", "images", "images/imageref", "nfsexport/nfsreplay"},

		// The only room where images, overlays and exports meet; it knows no RPC.
		"boot":                 {"boot/attempt", "boot/ballast", "boot/binding", "boot/bootfs", "boot/bootset", "boot/carry", "boot/identity", "boot/phase", "boot/quota", "boot/record", "boot/rollout", "boot/sighting", "boot/turn", "boot/writes", "config/device", "images", "images/imageref", "images/upper", "nfsexport", "overlay"},
		"boot/attempt":         {"boot/bootfs", "boot/bootset", "config/device"},
		"boot/backup":          {"boot/record", "boot/writes", "config/device", "images", "images/archive", "images/imageref", "images/treesum", "images/upper", "overlay"},
		"boot/ballast":         {},
		"boot/batch":           {"config/device", "images/imageref"},
		"boot/binding":         {"config/device"},
		"boot/bootfs":          {"config/device"},
		"boot/carry":           {"boot/bootset", "boot/identity", "boot/record", "boot/writes", "config/device", "images", "images/imageref", "images/rebase", "images/treediff", "images/upper", "overlay"},
		"boot/eeprom":          {},
		"boot/flight":          {"config/device"},
		"boot/identity":        {"boot/rootfile", "config/boardtext", "images/layered"},
		"boot/neigh":           {"config/device"},
		"boot/netconsole":      {},
		"boot/nettest":         {},
		"boot/netwatch":        {},
		"boot/bootset":         {"boot/bootfs"},
		"boot/quota":           {"nfsexport", "overlay", "overlay/projquota"},
		"boot/dhcplink":        {"boot/netwatch", "config/device"},
		"boot/dhcpserver":      {"boot/dhcplink", "boot/pidhcp", "config/device"},
		"boot/dhcptest":        {"config/device"},
		"boot/phase":           {},
		"boot/pidhcp":          {"boot/dhcplink", "config/device"},
		"boot/proxydhcp":       {"boot/dhcplink", "boot/pidhcp", "config/device"},
		"boot/record":          {"config/device", "images", "images/imageref", "nfsexport", "overlay"},
		"boot/rollout":         {"boot/batch", "boot/record", "boot/writes", "config/device", "images/imageref", "images/upper"},
		"boot/rootfile":        {},
		"boot/sdcard":          {"boot/eeprom", "config/leftover"},
		"boot/sighting":        {"config/device"},
		"boot/survivors":       {"boot/record", "config/device"},
		"boot/tftp":            {},
		"boot/turn":            {},
		"boot/writes":          {"boot/record", "boot/rootfile", "config/device", "images/imageref", "overlay"},
		"boot/fakepi":          {"boot/bootfs", "boot/fakepi/fdt", "boot/fakepi/nic", "config/device"},
		"boot/fakepi/child":    {},
		"boot/fakepi/emulator": {"boot/fakepi", "boot/fakepi/child", "boot/fakepi/fdt"},
		"boot/fakepi/fdt":      {},
		"boot/fakepi/nic":      {"config/device"},

		// Only the command imports config; the vocabulary below it is for all.
		"config":           {"config/boardtext", "config/device", "images/imageref"},
		"config/boardtext": {},
		"config/device":    {},
		"config/edit":      {"config", "config/device", "config/leftover"},
		"config/watch":     {"config"},
		"config/leftover":  {},
		"config/examples":  {},
		"config/schema":    {},

		"overlay":             {"config/device"},
		"overlay/projquota":   {},
		"overlay/stack":       {},
		"overlay/overlaytest": {"config/device", "images/layered", "images/treesum", "overlay"},

		"images/archive":            {"images/internal/onefs", "images/upper"},
		"images":                    {"images/imageref", "images/internal/onefs", "images/treesum"},
		"images/imageref":           {},
		"images/disk":               {},
		"images/editor":             {"images", "images/importer", "images/internal/onefs"},
		"images/ext4":               {},
		"images/fat":                {},
		"images/importer":           {"images", "images/imageref", "images/importer/bounds", "images/importer/directory", "images/importer/diskimage", "images/importer/layer", "images/importer/meter", "images/importer/source", "images/importer/spool", "images/importer/tarball", "images/internal/onefs", "images/share", "images/treesum"},
		"images/importer/diskimage": {"images", "images/disk", "images/ext4", "images/fat", "images/importer/bounds", "images/importer/layer", "images/internal/onefs", "images/treesum"},
		"images/importer/layer":     {"images/importer/bounds", "images/importer/meter", "images/internal/onefs", "images/treesum"},
		"images/importer/meter":     {},
		"images/importer/bounds":    {},
		"images/importer/source":    {"images/ext4", "images/importer/bounds", "images/importer/spool", "images/internal/onefs"},
		"images/importer/spool":     {"images/importer/bounds", "images/treesum"},
		"images/importer/tarball":   {"images/importer/bounds", "images/importer/layer", "images/importer/source", "images/treesum"},
		"images/importer/directory": {"images/importer/bounds", "images/importer/layer", "images/internal/onefs", "images/treesum"},
		"images/importer/imagetest": {"images/importer/bounds", "images/importer/layer", "images/importer/meter", "images/internal/onefs", "images/treesum"},
		"images/internal/onefs":     {},
		"images/internal/mounttest": {},
		"images/oci":                {"images", "images/importer", "images/internal/onefs", "images/treesum"},
		"images/share":              {"images", "images/internal/onefs", "images/treesum"},
		"images/treesum":            {"images/internal/onefs"},
		"images/dpkg":               {},
		"images/layered":            {"images/internal/onefs"},
		"images/treediff":           {"images/layered"},
		"images/golden":             {"images/treediff"},
		"images/rebase":             {"images/dpkg", "images/layered", "images/treediff", "images/upper"},
		"images/rules":              {"images/layered"},
		"images/upper":              {"images/internal/onefs", "images/layered", "images/treediff"},
		"images/sysdiff":            {"images/dpkg", "images/layered", "images/treediff"},

		// Nothing here knows of boards.
		"nfsexport":                   {},
		"nfsexport/attrcache":         {},
		"nfsexport/handlefs":          {"nfsexport", "nfsexport/attrcache", "nfsexport/handlefs/commit", "nfsexport/handlefs/creds", "nfsexport/handlefs/fhandle", "nfsexport/handlefs/gate", "nfsexport/handlefs/golden", "nfsexport/handlefs/listing", "nfsexport/handlefs/names", "nfsexport/handlefs/rawfs", "nfsexport/handlefs/reserve", "nfsexport/handlefs/shown", "nfsexport/handlefs/spending", "nfsexport/handlefs/stamp", "nfsexport/nfs3", "overlay/stack"},
		"nfsexport/handlefs/commit":   {"nfsexport/handlefs/rawfs"},
		"nfsexport/handlefs/creds":    {},
		"nfsexport/handlefs/fhandle":  {"nfsexport", "nfsexport/handlefs/rawfs", "nfsexport/nfs3"},
		"nfsexport/handlefs/gate":     {},
		"nfsexport/handlefs/golden":   {"nfsexport/handlefs/fhandle", "nfsexport/handlefs/listing", "nfsexport/handlefs/stamp"},
		"nfsexport/handlefs/listing":  {"nfsexport/attrcache", "nfsexport/handlefs/rawfs", "nfsexport/handlefs/stamp", "nfsexport/nfs3"},
		"nfsexport/handlefs/names":    {"nfsexport", "nfsexport/handlefs/fhandle", "nfsexport/handlefs/stamp"},
		"nfsexport/handlefs/rawfs":    {},
		"nfsexport/handlefs/reserve":  {},
		"nfsexport/handlefs/shown":    {"nfsexport/handlefs/fhandle"},
		"nfsexport/handlefs/spending": {"nfsexport"},
		"nfsexport/handlefs/stamp":    {},
		"nfsexport/knfsd":             {"nfsexport", "nfsexport/portmap"},
		"nfsexport/mount3":            {"nfsexport/sunrpc", "nfsexport/xdr"},
		"nfsexport/nfs3":              {"nfsexport/sunrpc", "nfsexport/xdr"},
		"nfsexport/nfsload":           {"nfsexport/mount3", "nfsexport/nfs3", "nfsexport/sunrpc", "nfsexport/xdr"},
		"nfsexport/nfsreplay":         {"nfsexport/mount3", "nfsexport/nfs3", "nfsexport/sunrpc", "nfsexport/xdr"},
		"nfsexport/nfstest":           {"nfsexport/nfs3"},
		"nfsexport/portmap":           {"nfsexport/sunrpc", "nfsexport/xdr"},
		"nfsexport/sunrpc":            {"nfsexport/xdr"},
		"nfsexport/unfsd":             {"nfsexport", "nfsexport/mount3", "nfsexport/nfs3", "nfsexport/portmap", "nfsexport/sunrpc"},
		"nfsexport/xdr":               {},
	}
}

// tested are packages that only tests may import.
func tested() []string {
	return []string{"boot/dhcptest", "boot/nettest", "cmd/rubus/e2e/harness", "images/importer/imagetest", "images/internal/mounttest", "nfsexport/nfstest", "overlay/overlaytest"}
}

const (
	module     = "rubus/"
	maxLines   = 400
	maxTest    = 600
	nfsClient  = "github.com/vmware/go-nfs-client"
	clientHome = "boot/fakepi" // "rubus simulate" may use the client, too
)

// file is one parsed file of the module.
type file struct {
	name  string // relative to the module
	pkg   string // its folder
	test  bool
	lines int
	ast   *ast.File
}

// TestLayers reads every file of the module, by go/parser: the answers of
// "go list" would be cached with the test's.
func TestLayers(t *testing.T) {
	files := parseModule(t)
	rows := house()
	packages := map[string][]file{}
	for _, f := range files {
		packages[f.pkg] = append(packages[f.pkg], f)
	}
	for pkg := range packages {
		if _, ok := rows[pkg]; !ok {
			t.Errorf("%s has no row in house(): say what it may import", pkg)
		}
	}
	for pkg := range rows {
		if packages[pkg] == nil {
			t.Errorf("%s has a row in house() but no files", pkg)
		}
	}
	for pkg, files := range packages {
		for _, f := range files {
			checkImports(t, f, rows[pkg])
			checkShape(t, f)
		}
		checkDoc(t, pkg, files)
	}
}

func checkImports(t *testing.T, f file, allowed []string) {
	t.Helper()
	for _, spec := range f.ast.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(imported, nfsClient) && !f.test && !strings.HasPrefix(f.pkg, clientHome) {
			t.Errorf("%s imports %s: that is for tests and simulate", f.name, imported)
		}
		ours, ok := strings.CutPrefix(imported, module)
		if !ok || f.test {
			continue
		}
		switch {
		case slices.Contains(tested(), ours):
			t.Errorf("%s imports %s, which is for tests", f.name, ours)
		case !slices.Contains(allowed, ours):
			t.Errorf("%s imports %s, which its row in house() does not allow", f.name, ours)
		}
	}
}

// checkShape wants files that can be read in one sitting, and no code that
// runs because it was imported.
func checkShape(t *testing.T, f file) {
	t.Helper()
	limit := maxLines
	if f.test {
		limit = maxTest
	}
	if f.lines > limit {
		t.Errorf("%s has %d lines, more than %d", f.name, f.lines, limit)
	}
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !f.test {
			t.Errorf("%s has an init function", f.name)
		}
	}
}

// checkDoc wants the package's purpose in one sentence: the first paragraph of
// its comment, in doc.go unless the package is one file.
func checkDoc(t *testing.T, pkg string, files []file) {
	t.Helper()
	var docs []file
	code := 0
	for _, f := range files {
		if f.test {
			continue
		}
		code++
		if f.ast.Doc != nil {
			docs = append(docs, f)
		}
	}
	if code == 0 || len(docs) != 1 {
		t.Errorf("%s has %d files with a package comment, want one", pkg, len(docs))
		return
	}
	if code > 1 && path.Base(docs[0].name) != "doc.go" {
		t.Errorf("%s has its package comment in %s, want doc.go", pkg, docs[0].name)
	}
	first, _, _ := strings.Cut(docs[0].ast.Doc.Text(), "\n\n")
	first = strings.Join(strings.Fields(first), " ")
	begin := "Package " + docs[0].ast.Name.Name + " "
	if docs[0].ast.Name.Name == "main" {
		begin = "Command " + path.Base(pkg) + " "
	}
	if !strings.HasPrefix(first, begin) || !strings.HasSuffix(first, ".") || strings.Contains(strings.TrimSuffix(first, "."), ". ") {
		t.Errorf("%s is described by %q, want one sentence that begins with %q", pkg, first, begin)
	}
}

func parseModule(t *testing.T) []file {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	var files []file
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != root || d.Name() == "testdata" || d.Name() == "dist"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		files = append(files, file{
			name: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(name, "_test.go"),
			lines: strings.Count(string(src), "\n"), ast: tree,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

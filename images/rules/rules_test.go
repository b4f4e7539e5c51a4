package rules_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/layered"
	"rubus/images/rules"
	"rubus/images/treediff"
)

var update = flag.Bool("update", false, "write what is generated") //nolint:gochecknoglobals // a flag

// tree is a root in small form: content by path; "-> x" is a link, a path that ends
// in a slash a directory.
type tree map[string]string

// with is a tree with more files; those of later ones win.
func with(trees ...tree) tree {
	out := tree{}
	for _, t := range trees {
		for p, c := range t {
			out[p] = c
		}
	}
	return out
}

func (f tree) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range slices.Sorted(func(yield func(string) bool) {
		for p := range f {
			if !yield(p) {
				return
			}
		}
	}) {
		at, c := filepath.Join(dir, p), f[p]
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		target, isLink := strings.CutPrefix(c, "-> ")
		switch {
		case strings.HasSuffix(p, "/"):
			must(t, os.MkdirAll(at, 0o755))
		case isLink:
			must(t, os.Symlink(target, at))
		default:
			mode := os.FileMode(0o644)
			if strings.Contains(p, "bin/") {
				mode = 0o755
			}
			must(t, os.WriteFile(at, []byte(c), mode))
		}
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// look opens layers, the uppermost first.
func look(t *testing.T, dirs ...string) *layered.View {
	t.Helper()
	dirs = slices.Clone(dirs)
	slices.Reverse(dirs)
	v, err := layered.Open(dirs)
	must(t, err)
	t.Cleanup(v.Close)
	return v
}

func plan(t *testing.T, dirs ...string) rules.Plan {
	t.Helper()
	tr := rules.NewTree(look(t, dirs...))
	pack, err := rules.Recognise(tr)
	must(t, err)
	p, err := pack.Make(tr)
	must(t, err)
	return p
}

// imported is a version of a root, with the rules' layer on it.
func imported(t *testing.T, root string) []string {
	t.Helper()
	s, err := images.Open(filepath.Join(t.TempDir(), "images"))
	must(t, err)
	v, _, err := importer.Import(t.Context(), s, "pi", root, importer.Options{
		Finish: func(_ context.Context, top *importer.Top) error {
			p := plan(t, top.Dirs...)
			return p.Apply(top)
		},
	})
	must(t, err)
	if len(v.Layers) != 2 {
		t.Fatalf("%d layers, want the root's and the rules'", len(v.Layers))
	}
	return s.LayerDirs(v)
}

// lines are what a plan changes.
func lines(p rules.Plan) string {
	var b strings.Builder
	for _, e := range p.Effects {
		for _, c := range e.Changes {
			fmt.Fprintf(&b, "%-14s %-5s %s", e.Rule, c.Kind, c.Path)
			if c.Kind == rules.Link {
				fmt.Fprintf(&b, " -> %s", c.Target)
			}
			b.WriteByte('\n')
		}
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, n := range p.Problems {
		fmt.Fprintf(&b, "problem: %s\n", n)
	}
	return b.String()
}

// TestPacks: what each release gets, and that nothing is left to do then. The
// goldens are testdata/FAMILY-RELEASE.
func TestPacks(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range roots() {
		t.Run(r.name, func(t *testing.T) {
			root := r.tree.write(t)
			for _, c := range r.capable {
				must(t, unix.Setxattr(filepath.Join(root, c), "security.capability", netRaw(), 0))
			}
			p := plan(t, root)
			if got := p.Family + "-" + p.Release; got != r.name {
				t.Fatalf("recognised as %s", got)
			}
			golden := filepath.Join("testdata", r.name)
			if *update {
				must(t, os.WriteFile(golden, []byte(lines(p)), 0o644))
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if d := cmp.Diff(string(want), lines(p)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			dirs := imported(t, root)
			again := plan(t, dirs...)
			if again.Changes() != 0 {
				t.Errorf("once more it changes\n%s", lines(again))
			}
			differsByThePlan(t, look(t, dirs[1]), look(t, dirs...), p)
		})
		seen[r.name] = true
	}
	for _, p := range rules.Packs() {
		if !seen[p.Family+"-"+p.Release] {
			t.Errorf("the pack of %s has no test", &p)
		}
	}
}

// differsByThePlan compares a root with and without the layer: it differs by the plan, and by nothing else.
func differsByThePlan(t *testing.T, before, after *layered.View, p rules.Plan) {
	t.Helper()
	changes, err := treediff.Plain(t.Context(), before, after)
	must(t, err)
	got := map[string]bool{}
	for _, c := range changes {
		if c.New == nil || !c.New.IsDir() {
			got["/"+c.Path] = true
		}
	}
	want := map[string]bool{}
	for _, e := range p.Effects {
		for _, c := range e.Changes {
			want[c.Path] = true
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changed paths (-plan +layer):\n%s", d)
	}
}

// TestCapabilities: what becomes of programs that have them, and of a ping that had some before it
// came over NFS or in a tarball.
func TestCapabilities(t *testing.T) {
	const conf = "etc/sysctl.d/50-rubus-ping.conf"
	for name, c := range map[string]struct {
		path    string
		mode    uint32
		uid     int
		capable bool
		conf    bool
		policy  string // "": it has no capabilities
		after   uint32 // the mode on a board
	}{
		"ping":                  {"usr/bin/ping", 0o755, 0, true, true, "ping-group", 0o755},
		"ping that lost them":   {"usr/bin/ping", 0o755, 0, false, true, "", 0o755},
		"setuid ping":           {"usr/bin/ping", 0o4755, 0, false, false, "", 0o4755},
		"mtr":                   {"usr/bin/mtr-packet", 0o755, 0, true, false, "setuid", 0o4755},
		"dumpcap of its group":  {"usr/bin/dumpcap", 0o754, 0, true, false, "setuid", 0o4754},
		"somebody's mtr":        {"usr/bin/mtr-packet", 0o755, 1000, true, false, "root", 0o755},
		"mtr that is no longer": {"usr/bin/mtr-packet", 0o755, 0, false, false, "", 0o755},
		"another program":       {"usr/bin/nethogs", 0o755, 0, true, false, "root", 0o755},
	} {
		t.Run(name, func(t *testing.T) {
			base := with(systemd(), tree{"etc/os-release": debian12, c.path: "program"})
			if c.path != "usr/bin/ping" {
				delete(base, "usr/bin/ping")
			}
			root := base.write(t)
			at := filepath.Join(root, c.path)
			must(t, os.Chown(at, c.uid, 0))
			must(t, unix.Chmod(at, c.mode))
			if c.capable {
				must(t, unix.Setxattr(at, "security.capability", netRaw(), 0))
			}
			var policies []string
			for _, l := range plan(t, root).Lost {
				policies = append(policies, l.Policy)
			}
			if got := strings.Join(policies, " "); got != c.policy {
				t.Errorf("the policy is %q, want %q", got, c.policy)
			}
			v := look(t, imported(t, root)...)
			if n, err := v.Lookup(conf); (err == nil && n != nil) != c.conf {
				t.Errorf("%s: %v, %v", conf, n, err)
			}
			n, err := v.Lookup(c.path)
			must(t, err)
			x, err := v.Xattrs(n)
			must(t, err)
			if b, err := v.ReadFile(c.path, 1<<10); err != nil || string(b) != "program" || n.Stat.Mode&0o7777 != c.after || int(n.Stat.Uid) != c.uid {
				t.Errorf("it is %q of %d with mode %o, %v; want %o", b, n.Stat.Uid, n.Stat.Mode, err, c.after)
			}
			if _, ok := x["security.capability"]; ok && c.policy == "setuid" {
				t.Error("it has its capabilities still")
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		tree tree
		want string
	}{
		"nothing":         {tree{"etc/": ""}, "no /etc/os-release"},
		"another system":  {tree{"etc/os-release": "ID=alpine\nPRETTY_NAME=\"Alpine Linux v3.22\"\n"}, "Alpine Linux v3.22"},
		"another release": {with(systemd(), tree{"etc/os-release": "ID=debian\nVERSION_CODENAME=sid\n"}), "debian sid"},
		"no systemd":      {tree{"etc/os-release": debian12}, "debian bookworm without systemd"},
		"a directory":     {tree{"etc/os-release/x": ""}, "no /etc/os-release"},
		"a loop":          {tree{"etc/os-release": "-> os-release"}, "no /etc/os-release"},
		"nowhere":         {tree{"etc": "-> none/../x"}, "no /etc/os-release"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rules.Recognise(rules.NewTree(look(t, c.tree.write(t))))
			if !errors.Is(err, rules.ErrUnknown) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want it to say %q", err, c.want)
			}
		})
	}
}

// TestHostile: links of the image lead nowhere but into the image, and what can't be
// done is said.
func TestHostile(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "fstab"), []byte("UUID=1 / ext4\n"), 0o600))
	must(t, os.MkdirAll(filepath.Join(outside, "system"), 0o755))
	for name, c := range map[string]struct {
		tree tree
		want []string // lines of the plan
		not  string
	}{
		"a file by an absolute link":    {tree{"etc/fstab": "-> " + outside + "/fstab"}, []string{"boot-firmware  write /etc/fstab"}, "fstab          write"},
		"a file by a relative link":     {tree{"etc/fstab": "-> ../../../../../../../../" + outside + "/fstab"}, []string{"boot-firmware  write /etc/fstab"}, "fstab          write"},
		"a directory by a link":         {tree{"etc/sysctl.d": "-> " + outside, "etc/systemd": "-> ../../../x"}, []string{"booted         write /x/system/rubus-booted.service"}, ""},
		"a link to a file":              {tree{"etc/systemd/journald.conf.d": "-> /etc/os-release"}, []string{"problem: \"/etc/systemd/journald.conf.d/50-rubus.conf\" leads through \"/etc/os-release\", which is no directory: not a directory; so rule journal can't do its part"}, ""},
		"a loop":                        {tree{"etc/systemd/system.conf.d": "-> system.conf.d"}, []string{"problem: \"/etc/systemd/system.conf.d/50-rubus.conf\": too many levels of symbolic links; so rule shutdown can't do its part"}, ""},
		"a directory for a file":        {tree{"etc/systemd/journald.conf.d/50-rubus.conf/x": ""}, []string{"problem: /etc/systemd/journald.conf.d/50-rubus.conf is a directory; so rule journal can't do its part"}, ""},
		"a link where a file is to be":  {tree{"etc/machine-id": "-> " + outside + "/fstab"}, []string{"machine-id     write /etc/machine-id"}, ""},
		"a directory where fstab is":    {tree{"etc/fstab/x": ""}, []string{"problem: /etc/fstab is a directory; so rule boot-firmware can't do its part"}, "write /etc/fstab"},
		"a unit's directory is climbed": {tree{"etc/systemd/system/multi-user.target.wants": "-> ../../../../../.."}, []string{"booted         link  /rubus-booted.service -> /etc/systemd/system/rubus-booted.service"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			base := with(systemd(), tree{"etc/os-release": debian12}, c.tree)
			delete(base, "etc/systemd/system/") // it may be a link's place
			root := base.write(t)
			got := lines(plan(t, root))
			for _, w := range c.want {
				if !slices.Contains(strings.Split(got, "\n"), w) {
					t.Errorf("no line %q in\n%s", w, got)
				}
			}
			if c.not != "" && strings.Contains(got, c.not) {
				t.Errorf("%q is in\n%s", c.not, got)
			}
			imported(t, root)
			if left, err := os.ReadDir(outside); err != nil || len(left) != 2 {
				t.Errorf("outside there are %v now, %v", left, err)
			}
			if b, err := os.ReadFile(filepath.Join(outside, "fstab")); err != nil || string(b) != "UUID=1 / ext4\n" {
				t.Errorf("the file outside is %q now, %v", b, err)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	root := with(systemd(), tree{"etc/os-release": debian12, "etc/fstab": strings.Repeat("#", 1<<20+1)}).write(t)
	tr := rules.NewTree(look(t, root))
	pack, err := rules.Recognise(tr)
	must(t, err)
	if _, err := pack.Make(tr); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("an fstab beyond 1 MiB: %v", err)
	}
}

// TestDocs holds the documents' list of rules equal to the packs. With -update it writes it.
func TestDocs(t *testing.T) {
	const doc, begin, end = "../../docs/images.md", "<!-- rules -->\n", "<!-- end of rules -->\n"
	b, err := os.ReadFile(doc)
	must(t, err)
	head, rest, ok := strings.Cut(string(b), begin)
	have, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", doc, begin, end)
	}
	var want strings.Builder
	want.WriteString("| rule | for | why |\n|---|---|---|\n")
	var order []string
	why, who := map[string]string{}, map[string][]string{}
	for _, p := range rules.Packs() {
		for _, r := range p.Rules {
			if why[r.ID] == "" {
				order = append(order, r.ID)
			}
			why[r.ID] = r.Why
			who[r.ID] = append(who[r.ID], p.String())
		}
	}
	for _, id := range order {
		for1 := strings.Join(who[id], ", ")
		if len(who[id]) == len(rules.Packs()) {
			for1 = "all"
		} else if len(who[id]) > len(rules.Packs())/2 {
			var not []string
			for _, p := range rules.Packs() {
				if !slices.Contains(who[id], p.String()) {
					not = append(not, p.String())
				}
			}
			for1 = "all but " + strings.Join(not, ", ")
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s |\n", id, for1, why[id])
	}
	if *update {
		must(t, os.WriteFile(doc, []byte(head+begin+want.String()+end+tail), 0o644))
		have = want.String()
	}
	if d := cmp.Diff(want.String(), have); d != "" {
		t.Errorf("%s (-packs +document; \"go test ./images/rules -run TestDocs -update\" writes it):\n%s", doc, d)
	}
}

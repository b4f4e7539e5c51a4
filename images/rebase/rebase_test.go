package rebase_test

import (
	"crypto/md5"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rubus/images/layered"
	"rubus/images/rebase"
	"rubus/images/treediff"
	"rubus/images/upper"
	"rubus/overlay/overlaytest"
)

// root is a small file system with packages: name and version, and who has which file.
type root struct {
	files    map[string]string
	packages map[string]string // "htop": "3.0"
	owned    map[string][]string
	conf     map[string]string // conffile -> "package content"
}

func (r root) write(t *testing.T, dir string) string {
	t.Helper()
	put := func(p, text string) {
		p = filepath.Join(dir, p)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	for p, text := range r.files {
		put(p, text)
	}
	var status strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.packages)) {
		fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nArchitecture: arm64\nVersion: %s\n", name, r.packages[name])
		list := slices.Clone(r.owned[name])
		conf := ""
		for p, c := range r.conf {
			if owner, text, _ := strings.Cut(c, " "); owner == name {
				conf += fmt.Sprintf(" /%s %x\n", p, md5.Sum([]byte(text)))
				list = append(list, p)
			}
		}
		if conf != "" {
			status.WriteString("Conffiles:\n" + conf)
		}
		status.WriteString("\n")
		put("var/lib/dpkg/info/"+name+".list", "/"+strings.Join(list, "\n/")+"\n")
	}
	put("var/lib/dpkg/status", status.String())
	return dir
}

// auto is what apt notes of packages that it installed for others.
func auto(names ...string) (text string) {
	for _, n := range names {
		text += "Package: " + n + "\nArchitecture: arm64\nAuto-Installed: 1\n\n"
	}
	return text
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// upperOf makes, by hand, the upper with which was shows what now has.
func upperOf(t *testing.T, was, now, to string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(to, "work"), 0o700))
	read := func(dir string) map[string]string {
		out := map[string]string{}
		must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			rel, _ := filepath.Rel(dir, p)
			out[rel] = string(b)
			return err
		}))
		return out
	}
	old, is := read(was), read(now)
	for p, text := range is {
		if have, ok := old[p]; !ok || have != text {
			p = filepath.Join(to, "upper", p)
			must(t, os.MkdirAll(filepath.Dir(p), 0o755))
			must(t, os.WriteFile(p, []byte(text), 0o644))
		}
	}
	for p := range old {
		if _, ok := is[p]; !ok {
			p = filepath.Join(to, "upper", p)
			must(t, os.MkdirAll(filepath.Dir(p), 0o755))
			must(t, unix.Mknod(p, unix.S_IFCHR, 0))
		}
	}
}

func open(t *testing.T, upper string, layers ...string) *layered.View {
	t.Helper()
	v, err := layered.Open(layers)
	if upper != "" {
		v, err = layered.OpenUpper(layers, upper)
	}
	must(t, err)
	t.Cleanup(v.Close)
	return v
}

// TestPlan has one case of everything: what the board changed alone, what the new version
// changed alone, the same, both; and packages in all combinations.
func TestPlan(t *testing.T) {
	dir := t.TempDir()
	was := root{
		files:    map[string]string{"etc/mine": "1", "etc/both": "1", "etc/same": "1", "etc/theirs": "1", "etc/gone": "1", "bin/up": "1", "bin/old": "1", "bin/ver": "1", "bin/ver-1": "1", "bin/newer": "1", "bin/rm": "1", "etc/edited.conf": "1", "etc/ld.so.cache": "1", "var/log/dpkg.log": "1", "var/lib/apt/extended_states": auto("old", "rm")},
		packages: map[string]string{"up": "1", "old": "1", "ver": "1", "rm": "1", "newer": "1", "conf": "1"},
		owned:    map[string][]string{"up": {"bin/up"}, "old": {"bin/old"}, "ver": {"bin/ver", "bin/ver-1"}, "rm": {"bin/rm"}, "newer": {"bin/newer"}},
		conf:     map[string]string{"etc/edited.conf": "conf 1"},
	}
	board := root{
		// up: both upgraded to 2. old: untouched. ver: board to 2, next to 3. newer: board to 3, next to 2.
		// rm: removed. own: installed. tool: both installed, next's is newer.
		files:    map[string]string{"etc/mine": "board", "etc/both": "board", "etc/same": "2", "etc/theirs": "1", "etc/new": "board", "bin/up": "2", "bin/old": "1", "bin/ver": "2", "bin/ver-2": "2", "bin/newer": "3", "bin/own": "1", "bin/tool": "1", "etc/edited.conf": "edited", "etc/ld.so.cache": "board", "var/log/dpkg.log": "board", "var/lib/apt/extended_states": auto("old", "own")},
		packages: map[string]string{"up": "2", "old": "1", "ver": "2", "newer": "3", "own": "1", "tool": "1", "conf": "1"},
		owned:    map[string][]string{"up": {"bin/up"}, "old": {"bin/old"}, "ver": {"bin/ver", "bin/ver-2"}, "newer": {"bin/newer"}, "own": {"bin/own"}, "tool": {"bin/tool"}},
		conf:     map[string]string{"etc/edited.conf": "conf 1"},
	}
	next := root{
		files:    map[string]string{"etc/mine": "1", "etc/both": "next", "etc/same": "2", "etc/theirs": "next", "etc/gone": "1", "bin/up": "2", "bin/old": "2", "bin/ver": "3", "bin/ver-3": "3", "bin/newer": "2", "bin/newer-2": "2", "bin/rm": "2", "bin/rm-2": "2", "bin/tool": "2", "etc/edited.conf": "next", "etc/ld.so.cache": "next", "var/log/dpkg.log": "next", "var/lib/apt/extended_states": auto("old", "rm", "tool")},
		packages: map[string]string{"up": "2", "old": "2", "ver": "3", "rm": "2", "newer": "2", "tool": "2", "conf": "2"},
		owned:    map[string][]string{"up": {"bin/up"}, "old": {"bin/old"}, "ver": {"bin/ver", "bin/ver-3"}, "rm": {"bin/rm", "bin/rm-2"}, "newer": {"bin/newer", "bin/newer-2"}, "tool": {"bin/tool"}},
		conf:     map[string]string{"etc/edited.conf": "conf next"},
	}
	w, n := was.write(t, filepath.Join(dir, "was")), next.write(t, filepath.Join(dir, "next"))
	upperOf(t, w, board.write(t, filepath.Join(dir, "board")), filepath.Join(dir, "up"))
	trees := rebase.Trees{Was: open(t, "", w), Board: open(t, filepath.Join(dir, "up"), w), Next: open(t, "", n)}
	p, err := rebase.Make(t.Context(), trees)
	must(t, err)

	var got []string
	for _, i := range p.Items {
		if !strings.HasPrefix(i.Path, "var/") && i.Kind != treediff.Metadata {
			got = append(got, fmt.Sprintf("%s %s %s", i.Verdict, i.Kind, i.Path))
		}
	}
	want := []string{
		"keep changed bin/newer", "keep removed bin/newer-2", "keep added bin/own", "keep removed bin/rm", "keep removed bin/rm-2",
		"drop added bin/tool", "drop changed bin/up", "drop changed bin/ver", "drop removed bin/ver-1", "drop added bin/ver-2",
		"conflict changed etc/both", "conflict changed etc/edited.conf", "keep removed etc/gone", "drop changed etc/ld.so.cache",
		"keep changed etc/mine", "keep added etc/new", "drop changed etc/same",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("verdicts (-want +got):\n%s", d)
	}
	var packages []string
	for _, k := range p.Packages {
		packages = append(packages, fmt.Sprintf("%s %s %s,%s,%s", k.Verdict, k.Name, k.Was, k.Board, k.Next))
	}
	if d := cmp.Diff([]string{"keep newer 1,3,2", "keep own ,1,", "keep rm 1,,2", "drop tool ,1,2", "drop up 1,2,2", "drop ver 1,2,3"}, packages); d != "" {
		t.Errorf("packages (-want +got):\n%s", d)
	}

	// Carried over, the files of every package are those of the version its database has.
	for _, boards := range []bool{true, false} {
		to := filepath.Join(dir, fmt.Sprint("new", boards))
		must(t, os.MkdirAll(filepath.Join(to, "upper"), 0o755))
		_, err := upper.Build(t.Context(), filepath.Join(to, "upper"), upper.Delta{
			Base: trees.Next, Was: trees.Was, Tree: trees.Board, Changes: p.Changes(boards), Content: p.Content(),
		}, nil)
		must(t, err)
		v := open(t, to, n)
		must(t, p.Check(t.Context(), v, boards))
		if err := p.Check(t.Context(), v, !boards); err == nil {
			t.Error("conflicts went the other way, and nobody saw it")
		}
		must(t, os.WriteFile(filepath.Join(to, "upper/litter"), nil, 0o644))
		if err := p.Check(t.Context(), v, boards); err == nil {
			t.Error("a file that nobody wanted was not seen")
		}
		for file, want := range map[string]string{
			"etc/mine": "board", "etc/new": "board", "etc/same": "2", "etc/theirs": "next", "etc/gone": "", "bin/up": "2", "bin/old": "2",
			"bin/ver": "3", "bin/ver-2": "", "bin/ver-3": "3", "bin/newer": "3", "bin/newer-2": "", "bin/rm": "", "bin/rm-2": "", "bin/own": "1", "bin/tool": "2",
			"etc/both": map[bool]string{true: "board", false: "next"}[boards], "var/log/dpkg.log": "board", "var/lib/apt/extended_states": auto("old", "own", "tool"),
		} {
			b, err := v.ReadFile(file, 1000)
			if string(b) != want || err == nil == (want == "") {
				t.Errorf("%s is %q (%v), want %q", file, b, err, want)
			}
		}
		status, err := v.ReadFile("var/lib/dpkg/status", 1<<20)
		must(t, err)
		var versions []string
		for line := range strings.Lines(string(status)) {
			if x, ok := strings.CutPrefix(line, "Package: "); ok {
				versions = append(versions, strings.TrimSpace(x))
			} else if x, ok := strings.CutPrefix(line, "Version: "); ok {
				versions[len(versions)-1] += " " + strings.TrimSpace(x)
			}
		}
		if d := cmp.Diff([]string{"conf 2", "newer 3", "old 2", "own 1", "tool 2", "up 2", "ver 3"}, versions); d != "" {
			t.Errorf("the database (-want +got):\n%s", d)
		}
		for name, has := range map[string]bool{"own": true, "rm": false, "ver": true} {
			if _, err := v.Lookup("var/lib/dpkg/info/" + name + ".list"); (err == nil) != has {
				t.Errorf("the list of %s: %v", name, err)
			}
		}
		if b, err := v.ReadFile("var/lib/dpkg/info/ver.list", 1000); !strings.Contains(string(b), "ver-3") {
			t.Errorf("the list of ver is that of another version: %s, %v", b, err)
		}
	}
}

// TestAnyBoard: whatever a board did, what is built of a plan passes the check, and is
// what a mount shows.
func TestAnyBoard(t *testing.T) {
	for seed := range uint64(6) {
		s := overlaytest.New(t)
		spec := s.NewUpper()
		r := s.Scramble(rand.New(rand.NewPCG(seed, 5)), spec, s.Mount(spec), 40)
		s.Unmount(r)
		was := s.Layers
		next := filepath.Join(s.Dir, "l", "2")
		for _, p := range []string{"d0/g1", "d1/hard", "d2/e2/f", "d3/new", "newdir/file"} {
			s.Write(filepath.Join(next, p), "of the next version")
		}
		must(t, os.MkdirAll(filepath.Join(next, "d1"), 0o755))
		must(t, unix.Mknod(filepath.Join(next, "d1/e1"), unix.S_IFCHR, 0)) // gone in the next version
		s.Layers = append(slices.Clone(was), next)
		s.Rebase()
		trees := rebase.Trees{Was: open(t, "", was...), Board: open(t, spec.UpperDir, was...), Next: open(t, "", s.Layers...)}
		p, err := rebase.Make(t.Context(), trees)
		must(t, err)
		for _, board := range []bool{true, false} {
			to := s.NewUpper()
			_, err := upper.Build(t.Context(), filepath.Join(to.UpperDir, "upper"), upper.Delta{
				Base: trees.Next, Was: trees.Was, Tree: trees.Board, Changes: p.Changes(board), Content: p.Content(),
			}, nil)
			must(t, err)
			v := open(t, to.UpperDir, s.Layers...)
			if err := p.Check(t.Context(), v, board); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			want := s.SumView(v)
			if d := cmp.Diff(want, s.Sum(s.Mount(to).Target)); d != "" {
				t.Fatalf("seed %d (-view +mount):\n%s", seed, d)
			}
		}
	}
}

// Of two new caches of libraries that one holds which finds all of them.
func TestCacheOfLibraries(t *testing.T) {
	const libc, own, theirs = "/lib/aarch64-linux-gnu/libc.so.6", "/usr/local/lib/libown.so.1", "/opt/vc/lib/libbcm_host.so"
	for name, c := range map[string]struct {
		board, next []byte
		want        string
	}{
		"nothing of its own":  {rebase.CacheOf(libc), rebase.CacheOf(), "drop the new version's finds all libraries"},
		"the board's own":     {rebase.CacheOf(own, libc), rebase.CacheOf(libc), "keep it finds the board's own libraries"},
		"the new version's":   {rebase.CacheOf(libc), rebase.CacheOf(theirs), "drop the new version's finds all libraries"},
		"the same in both":    {rebase.CacheOf(theirs, own), rebase.CacheOf(own, theirs), "drop the new version's finds all libraries"},
		"of both":             {rebase.CacheOf(own), rebase.CacheOf(theirs), "conflict both find libraries of their own by it: run ldconfig on the board afterwards"},
		"the board's is junk": {[]byte("junk"), rebase.CacheOf(theirs), "drop the new version's finds all libraries"},
		"the board has none":  {nil, rebase.CacheOf(theirs), "drop it is made anew"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			with := func(cache []byte) root {
				r := root{files: map[string]string{}}
				if cache != nil {
					r.files["etc/ld.so.cache"] = string(cache)
				}
				return r
			}
			w, n := with([]byte("was")).write(t, filepath.Join(dir, "was")), with(c.next).write(t, filepath.Join(dir, "next"))
			upperOf(t, w, with(c.board).write(t, filepath.Join(dir, "board")), filepath.Join(dir, "up"))
			p, err := rebase.Make(t.Context(), rebase.Trees{Was: open(t, "", w), Board: open(t, filepath.Join(dir, "up"), w), Next: open(t, "", n)})
			must(t, err)
			var got []string
			for _, i := range p.Items {
				got = append(got, fmt.Sprint(i.Verdict, " ", i.Why))
			}
			if d := cmp.Diff([]string{c.want}, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

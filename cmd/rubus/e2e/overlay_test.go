package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images"
)

// TestOverlayStory: one board deletes, changes and creates; the other sees the
// golden data, and the golden layers stay what they are.
func TestOverlayStory(t *testing.T) {
	for name, layers := range map[string]func(l *lab) images.Version{
		"one layer":    (*lab).golden,
		"three layers": (*lab).threeLayers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			overlayStory(l, layers(l))
		})
	}
}

// threeLayers stacks two small layers on the golden one. The top one changes
// what the story's first file says in the layer below it.
func (l *lab) threeLayers() images.Version {
	l.t.Helper()
	v := l.golden()
	for _, text := range []string{"middle", "golden line"} {
		dir := l.t.TempDir()
		must(l.t, os.MkdirAll(filepath.Join(dir, "srv/data"), 0o755))
		must(l.t, os.WriteFile(filepath.Join(dir, "srv/data/change"), []byte(text+"\n"), 0o644))
		if text == "middle" {
			must(l.t, os.WriteFile(filepath.Join(dir, "srv/data/delete"), []byte("from the middle\n"), 0o644))
		}
		v = l.image("lab", dir, &v)
	}
	if len(v.Layers) != 3 {
		l.t.Fatalf("%d layers", len(v.Layers))
	}
	return v
}

func overlayStory(l *lab, v images.Version) {
	t := l.t
	t.Helper()
	l.devices("defaults: {image: lab}\ndevices:\n  - serial: b8123456\n  - serial: b8223344\n")
	l.serve()
	one := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101)
	two := l.board("4b", "b8223344", "dc:a6:32:22:33:44", 102)
	m1, m2 := one.boot(), two.boot()
	m2.all("ls -laR /mnt/root/srv >/dev/null")
	golden := m2.all("cd /mnt/root/srv/data; cat delete change")
	m1.all("cd /mnt/root/srv/data; rm delete; echo 'written by board 1' >>change; echo new >created; sync")

	m1.want("cd /mnt/root/srv/data; ls; cat change created", "change\ncreated\ndeep\nkeep\nkeep-too\ngolden line\nwritten by board 1\nnew")
	// Nothing of board 2's view may come from its client's memory.
	m2.all("echo 3 >/proc/sys/vm/drop_caches")
	m2.want("cd /mnt/root/srv/data; ls; cat delete change", "change\ndeep\ndelete\nkeep\nkeep-too\n"+strings.TrimSpace(golden))

	for _, layer := range v.Layers {
		if err := l.store.Verify(t.Context(), layer.Digest, nil); err != nil {
			t.Errorf("layer %s: %v", layer.Digest, err)
		}
	}
	upper := l.upper(one.serial, l.slot(one.serial, "current"))
	want := map[string]string{
		"srv": "directory", "srv/data": "directory", "srv/data/delete": "whiteout",
		"srv/data/change": "golden line\nwritten by board 1\n", "srv/data/created": "new\n",
	}
	got1, got2 := treeOf(t, upper), treeOf(t, l.upper(two.serial, l.slot(two.serial, "current")))
	dropIdentity(got1)
	dropIdentity(got2)
	if diff := compare(want, got1); diff != "" {
		t.Errorf("board 1's upper: %s", diff)
	}
	if len(got2) > 0 {
		t.Errorf("board 2 wrote nothing, and its upper has %v", got2)
	}
}

// dropIdentity takes out what the server gives each board of its own.
func dropIdentity(tree map[string]string) {
	for _, name := range []string{"etc", "etc/hostname", "etc/hosts", "etc/machine-id"} {
		delete(tree, name)
	}
}

// treeOf says what is in a directory: the content of files, the kind of all else.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			out[name] = "whiteout"
		case d.IsDir():
			out[name] = "directory"
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			out[name] = string(b)
		default:
			out[name] = d.Type().String()
		}
		return nil
	}))
	return out
}

// compare lists the names that differ; "" when there are none.
func compare(want, got map[string]string) string {
	var diff []string
	for name, w := range want {
		if g, ok := got[name]; !ok {
			diff = append(diff, name+" is missing")
		} else if g != w {
			diff = append(diff, name+" is "+g+", not "+w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			diff = append(diff, name+" should not be there")
		}
	}
	sort.Strings(diff)
	return strings.Join(diff, "; ")
}

package bootset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// house has boards over the layers of one image, mounted as they are for boards.
type house struct {
	*testing.T
	dir   string
	cache Cache
}

// resident is one board.
type resident struct {
	*house
	dir    string // with upper, work and root
	layers []string
	config []string
	models []Model
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, dir: t.TempDir()}
	for name, text := range raspios().files {
		write(t, filepath.Join(h.dir, "base/boot/firmware", name), text)
	}
	write(t, h.dir+"/base/boot/firmware/overlays/overlay_map.dtb", "x")
	write(t, h.dir+"/base/lib/modules/"+release+"/modules.dep", "")
	write(t, h.dir+"/base/etc/hostname", "golden\n")
	write(t, h.dir+"/base/etc/motd", "golden\n")
	write(t, h.dir+"/top/etc/fstab", "")
	if err := errors.Join(os.Mkdir(h.dir+"/base/home", 0o755), os.Link(h.dir+"/base/boot/firmware/cmdline.txt", h.dir+"/base/home/alias")); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) board(name string) *resident {
	h.Helper()
	r := &resident{house: h, dir: filepath.Join(h.dir, name), layers: []string{"base", "top"}, models: Models(1)[1:2]}
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o755); err != nil {
			h.Fatal(err)
		}
	}
	return r
}

func (r *resident) mount() {
	r.Helper()
	var lower []string
	for _, l := range slices.Backward(r.layers) {
		lower = append(lower, filepath.Join(r.house.dir, l))
	}
	opt := "index=on,nfs_export=on,redirect_dir=on,metacopy=off,lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + r.dir + "/upper,workdir=" + r.dir + "/work"
	if err := unix.Mount("overlay", r.dir+"/root", "overlay", 0, opt); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = unix.Unmount(r.dir+"/root", unix.MNT_DETACH) })
}

func (r *resident) unmount() {
	r.Helper()
	if err := unix.Unmount(r.dir+"/root", 0); err != nil {
		r.Fatal(err)
	}
}

func (r *resident) open() *Root {
	r.Helper()
	root, err := OpenRoot(Mounted{
		Dir: r.dir + "/root", BootDir: "boot/firmware", Config: r.config, Upper: r.dir + "/upper", Layers: r.layers,
		LayerDir: func(digest string) string { return filepath.Join(r.house.dir, digest) },
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(root.Close)
	return root
}

// prepare is what a boot begins with; between is called when the files were looked at. It
// says whether another board's set was taken, and holds it against what is there.
func (r *resident) prepare(between func()) (*Set, bool) {
	r.Helper()
	take := func(cache *Cache, between func(), dir string) (*Set, Report) {
		root := r.open()
		report := Check(root.View(), r.models, cache)
		between()
		s := &Store{Dir: filepath.Join(r.dir, dir), LayerDir: root.m.LayerDir, Now: time.Now}
		set, err := s.Take(root, report)
		if err != nil {
			r.Fatal(err)
		}
		if now, err := s.Current(); err != nil || now.Key != set.Key {
			r.Errorf("kept is %+v, %v", now, err)
		}
		return set, report
	}
	set, report := take(&r.cache, between, "kept")
	alone, want := take(nil, func() {}, "alone")
	if set.Key != alone.Key || !reflect.DeepEqual(set.Files, alone.Files) || !slices.Equal(set.Names, alone.Names) || set.Made.IsZero() {
		r.Errorf("it is given %+v, and has %+v", set.Files, alone.Files)
	}
	if !slices.Equal(report.Broken, want.Broken) || !slices.Equal(report.Warnings, want.Warnings) || !slices.Equal(report.Kernels, want.Kernels) {
		r.Errorf("it is said of it %+v, is %+v", report, want)
	}
	if report.found == nil {
		return set, false
	}
	s := r.cache.shared(report.found.key)
	return set, s != nil && s.set.Made.Before(set.Made) && &s.set.Names[0] == &set.Names[0]
}

// TestShared: a board that wrote nothing gets what was found for another one of its image,
// and no other board does.
func TestShared(t *testing.T) {
	in := func(r *resident, name string) string { return filepath.Join(r.dir, "root", name) }
	put := func(r *resident, name, text string) error { return os.WriteFile(in(r, name), []byte(text), 0o644) }
	for name, c := range map[string]struct {
		image  func(h *house) error
		before func(r *resident)
		writes func(r *resident) error
		shared bool
	}{
		"untouched": {shared: true},
		"its identity": {writes: func(r *resident) error {
			return errors.Join(put(r, "etc/new", "own\n"), os.Rename(in(r, "etc/new"), in(r, "etc/hostname")), put(r, "home/own", "x"))
		}, shared: true},
		"another serial":  {before: func(r *resident) { r.models = Models(2)[1:2] }, shared: true},
		"another model":   {before: func(r *resident) { r.models = Models(1)[:1] }},
		"another line":    {before: func(r *resident) { r.config = []string{"dtparam=audio=off"} }},
		"another version": {before: func(r *resident) { r.layers = []string{"base"} }},
		"a boot file":     {writes: func(r *resident) error { return put(r, "boot/firmware/config.txt", "arm_64bit=1\n") }},
		"a new boot file": {writes: func(r *resident) error { return put(r, "boot/firmware/new", "") }},
		"no kernel":       {writes: func(r *resident) error { return os.Remove(in(r, "boot/firmware/kernel8.img")) }},
		"no modules":      {writes: func(r *resident) error { return os.RemoveAll(in(r, "lib/modules")) }},
		"other modules":   {writes: func(r *resident) error { return os.Mkdir(in(r, "lib/modules/6.6.1"), 0o755) }},
		"a new directory": {writes: func(r *resident) error { return os.Mkdir(in(r, "data"), 0o755) }},
		"very much": {writes: func(r *resident) error {
			// Each is a golden directory that is copied up, and has an entry in the index.
			var err error
			for i := range maxBesides + 1 {
				err = errors.Join(err, put(r, fmt.Sprintf("home/%d/own", i), ""))
			}
			return err
		}, image: func(h *house) error {
			var err error
			for i := range maxBesides + 1 {
				err = errors.Join(err, os.Mkdir(fmt.Sprintf("%s/base/home/%d", h.dir, i), 0o755))
			}
			return err
		}},
		"a golden file elsewhere": {writes: func(r *resident) error { return put(r, "etc/motd", "own") }},
		"a boot file by its other name": {writes: func(r *resident) error {
			return put(r, "home/alias", "own words\n")
		}},
		"a boot file by its handle": {writes: func(r *resident) error {
			h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, in(r, "boot/firmware/config.txt"), 0)
			if err != nil {
				return err
			}
			r.unmount()
			r.mount()
			at, err := os.Open(in(r, ""))
			if err != nil {
				return err
			}
			defer at.Close()
			fd, err := unix.OpenByHandleAt(int(at.Fd()), h, unix.O_WRONLY|unix.O_CLOEXEC)
			if err != nil {
				return err
			}
			f := os.NewFile(uintptr(fd), "")
			_, err = f.WriteString("arm_64bit=1\n#")
			return errors.Join(err, f.Close())
		}},
		"an image that asks for serials": {image: func(h *house) error {
			write(h.T, h.dir+"/top/boot/firmware/config.txt", "arm_64bit=1\nauto_initramfs=1\n[0x12345678]\nkernel=mine.img\n")
			return nil
		}},
		"an image with a link": {image: func(h *house) error {
			return os.Symlink("kernel8.img", h.dir+"/base/boot/firmware/link")
		}},
		"an image of which something is to be said": {image: func(h *house) error {
			return os.Remove(h.dir + "/base/boot/firmware/fixup4.dat")
		}},
		"an image that does not boot": {image: func(h *house) error {
			return os.Remove(h.dir + "/base/boot/firmware/start4.elf")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			if c.image != nil {
				if err := c.image(h); err != nil {
					t.Fatal(err)
				}
			}
			first := h.board("first")
			first.mount()
			if _, shared := first.prepare(func() {}); shared {
				t.Error("the first board's set is another's")
			}
			b := h.board("second")
			if c.before != nil {
				c.before(b)
			}
			b.mount()
			if c.writes != nil {
				if err := c.writes(b); err != nil {
					t.Fatal(err)
				}
			}
			if _, shared := b.prepare(func() {}); shared != c.shared {
				t.Errorf("another's set is taken: %v, want %v", shared, c.shared)
			}
			// What the board writes while it is prepared counts, too.
			last := h.board("last")
			last.mount()
			set, shared := last.prepare(func() {
				if err := put(last, "boot/firmware/cmdline.txt", "own words\n"); err != nil {
					t.Fatal(err)
				}
			})
			if e := set.entry("cmdline.txt"); shared || e == nil || e.Sum == "" {
				t.Errorf("written meanwhile: %+v, another's set is taken: %v", e, shared)
			}
		})
	}
}

// TestSharedIsBounded: images come and go.
func TestSharedIsBounded(t *testing.T) {
	var c Cache
	for i := range 3*maxShared + 1 {
		c.share(strings.Repeat("x", i), &shared{})
	}
	if n := len(c.found); n > maxShared || n == 0 {
		t.Errorf("%d are remembered", n)
	}
}

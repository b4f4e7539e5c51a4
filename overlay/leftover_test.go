package overlay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// byHandle opens a file of a root by a handle that the kernel knows no path for,
// as an NFS server does after a reboot.
func (s *store) byHandle(spec Spec, root Root, name string) (Root, *os.File) {
	s.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(root.Target, name), 0)
	must(s, err)
	must(s, Unmount(s.Context(), root))
	root = s.mount(spec)
	mnt, err := os.Open(root.Target)
	must(s, err)
	defer mnt.Close()
	fd, err := unix.OpenByHandleAt(int(mnt.Fd()), h, unix.O_RDWR)
	must(s, err)
	return root, os.NewFile(uintptr(fd), name)
}

// TestWrittenByHandle: what a board wrote to a golden file by its handle alone
// is there after the next mounts, and counts as written.
func TestWrittenByHandle(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"d/a", "d/b"})
	spec := s.spec("00000001")
	root := s.mount(spec)
	if empty, err := s.uppers("00000001").IsEmpty(spec.UpperID); err != nil || !empty {
		t.Errorf("nothing written: empty %v, %v", empty, err)
	}
	root, f := s.byHandle(spec, root, "d/a")
	_, err := f.WriteAt([]byte("written"), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	if empty, err := s.uppers("00000001").IsEmpty(spec.UpperID); err != nil || empty {
		t.Errorf("written by handle: empty %v, %v", empty, err)
	}
	for range 2 {
		must(t, Unmount(t.Context(), root))
		root = s.mount(spec)
		if got := readAll(t, filepath.Join(root.Target, "d/a")); got != "writtend/a" {
			t.Fatalf("after a mount it is %q", got)
		}
	}
	must(t, os.Rename(filepath.Join(root.Target, "d/a"), filepath.Join(root.Target, "c")))
	must(t, os.Remove(filepath.Join(root.Target, "d/b")))
	must(t, Unmount(t.Context(), root))
	root = s.mount(spec)
	for name, want := range map[string]string{"c": "writtend/a", "d/a": "(missing)", "d/b": "(missing)"} {
		if got := readAll(t, filepath.Join(root.Target, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestKeptGoes: the link that kept a copy is gone when the file has a name in the
// upper, and when the board has removed it; then its space is free.
func TestKeptGoes(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(file string) error
		want string
		left int // copies in the index; a whiteout bars the handles of a removed file
	}{
		{"written to by its name", func(file string) error { return os.Chmod(file, 0o600) }, "writtena", 1},
		{"removed", os.Remove, "(missing)", 0},
		{"given a name and removed", func(file string) error {
			if err := os.Chmod(file, 0o600); err != nil {
				return err
			}
			return os.Remove(file)
		}, "(missing)", 0},
	} {
		s := newStore(t, t.TempDir(), []string{"a"})
		spec := s.spec("00000001")
		root, f := s.byHandle(spec, s.mount(spec), "a")
		_, err := f.WriteAt([]byte("written"), 0)
		must(t, err)
		must(t, f.Close())
		must(t, Unmount(t.Context(), root))
		root = s.mount(spec)
		kept := filepath.Join(spec.UpperDir, "work", keptDir)
		if list, err := os.ReadDir(kept); err != nil || len(list) != 1 {
			t.Fatalf("%s: kept %v, %v", c.name, list, err)
		}
		must(t, c.do(filepath.Join(root.Target, "a")))
		for range 2 {
			must(t, Unmount(t.Context(), root))
			root = s.mount(spec)
			if got := readAll(t, filepath.Join(root.Target, "a")); got != c.want {
				t.Errorf("%s: it is %q, want %q", c.name, got, c.want)
			}
		}
		if list, err := os.ReadDir(kept); err != nil || len(list) != 0 {
			t.Errorf("%s: still kept %v, %v", c.name, list, err)
		}
		copies := 0
		must(t, filepath.WalkDir(filepath.Join(spec.UpperDir, "work/index"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				copies++
			}
			return err
		}))
		if copies != c.left {
			t.Errorf("%s: the index has %d copies, want %d", c.name, copies, c.left)
		}
	}
}

// TestUsageOfCopiesByHandle: a copy that only the index has counts, once, for as long as the
// board sees it; so there is room for what a snapshot makes of it.
func TestUsageOfCopiesByHandle(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a", "b"})
	big := filepath.Join(s.layers[0], "a")
	must(t, os.WriteFile(big, make([]byte, 1<<20), 0o600))
	must(t, os.Link(big, filepath.Join(s.layers[0], "again")))
	spec := s.spec("00000001")
	root, f := s.byHandle(spec, s.mount(spec), "a")
	_, err := f.WriteAt([]byte("written"), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	at := func(name string) string { return filepath.Join(root.Target, name) }
	for _, c := range []struct {
		name  string
		do    func() error
		files int64
		bytes int64
	}{
		{"written by its handle", func() error { return nil }, 1, 1 << 20},
		{"kept by the next mount", func() error {
			if err := Unmount(t.Context(), root); err != nil {
				return err
			}
			root = s.mount(spec)
			return nil
		}, 1, 1 << 20},
		{"another golden file beside it", func() error { return os.Chmod(at("b"), 0o600) }, 2, 1<<20 + 4096},
		{"with a name in the upper", func() error { return os.Chmod(at("a"), 0o600) }, 2, 1<<20 + 4096},
		{"one of two names removed", func() error { return os.Remove(at("a")) }, 3, 1<<20 + 4096},
		{"and the other", func() error { return os.Remove(at("again")) }, 2, 4096}, // whiteouts are one file
	} {
		must(t, c.do())
		if got, err := s.uppers("00000001").Usage(t.Context(), spec.UpperID); err != nil || got != (Usage{c.bytes, c.files}) {
			t.Errorf("%s: usage %+v, %v; want %d bytes in %d files", c.name, got, err, c.bytes, c.files)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := walker{seen: map[uint64]bool{}}
	if err := w.indexed(ctx, filepath.Join(spec.UpperDir, "work")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
}

// TestCopyInterrupted: a copy-up that got as far as the index harms nothing.
func TestCopyInterrupted(t *testing.T) {
	for _, attr := range []string{"U+0", "L+0", ""} {
		s := newStore(t, t.TempDir(), []string{"a"})
		spec := s.spec("00000001")
		root := s.mount(spec)
		must(t, os.Chmod(filepath.Join(root.Target, "a"), 0o600))
		must(t, Unmount(t.Context(), root))
		must(t, os.Remove(filepath.Join(spec.UpperDir, "upper/a")))
		entry := s.indexEntry(spec)
		if attr == "" {
			must(t, unix.Removexattr(entry, nlinkAttr))
		} else {
			must(t, unix.Setxattr(entry, nlinkAttr, []byte(attr), 0))
		}
		for range 2 {
			root = s.mount(spec)
			if got := readAll(t, filepath.Join(root.Target, "a")); got != "golden a" {
				t.Errorf("attribute %q: it is %q", attr, got)
			}
			must(t, Unmount(t.Context(), root))
		}
	}
}

// TestRemovalInterrupted: a file whose last name was gone stays gone, and its
// copy goes.
func TestRemovalInterrupted(t *testing.T) {
	s := newStore(t, t.TempDir(), []string{"a"})
	spec := s.spec("00000001")
	root := s.mount(spec)
	must(t, os.Chmod(filepath.Join(root.Target, "a"), 0o600))
	must(t, Unmount(t.Context(), root))
	upper := filepath.Join(spec.UpperDir, "upper/a")
	must(t, os.Remove(upper))
	must(t, unix.Mknod(upper, unix.S_IFCHR, 0))
	entry := s.indexEntry(spec)
	must(t, unix.Setxattr(entry, nlinkAttr, []byte(removedNlink), 0))
	root = s.mount(spec)
	if got := readAll(t, filepath.Join(root.Target, "a")); got != "(missing)" {
		t.Errorf("the removed file is %q", got)
	}
	if keep, err := isMisread(entry); err != nil || keep {
		t.Errorf("its copy is kept: %v, %v", keep, err)
	}
	if _, err := os.Stat(filepath.Join(spec.UpperDir, "work", keptDir)); !os.IsNotExist(err) {
		t.Errorf("something was kept: %v", err)
	}
}

// TestDropTemporary: only what overlayfs was making goes.
func TestDropTemporary(t *testing.T) {
	work := t.TempDir()
	for _, d := range []string{"index/#1", "index/00fb"} {
		must(t, os.MkdirAll(filepath.Join(work, d), 0o700))
	}
	must(t, os.WriteFile(filepath.Join(work, "index/#2a"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(work, "index/#1/x"), nil, 0o600))
	must(t, dropTemporary(work))
	list, err := os.ReadDir(filepath.Join(work, "index"))
	must(t, err)
	if len(list) != 1 || list[0].Name() != "00fb" {
		t.Errorf("left: %v", list)
	}
}

// indexEntry is the only entry of an upper's index.
func (s *store) indexEntry(spec Spec) string {
	s.Helper()
	work := filepath.Join(spec.UpperDir, "work")
	names, err := indexEntries(work)
	must(s, err)
	if len(names) != 1 {
		s.Fatalf("the index has %q", names)
	}
	return filepath.Join(work, "index", names[0])
}

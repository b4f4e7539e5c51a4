// Package overlaytest makes layers and boards' uppers that are as odd as boards make them, for tests.
package overlaytest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/config/device"
	"rubus/images/layered"
	"rubus/images/treesum"
	"rubus/overlay"
)

// Stand is a stack of layers with the uppers of one board on it. Its methods end
// the test when something fails.
type Stand struct {
	*testing.T
	Dir    string
	Layers []string // the bottom one first
	Base   overlay.Base
	Uppers overlay.Uppers
	last   int
	fresh  int // names made so far
}

// New makes a stand with two layers in which everything occurs that images have.
// It mounts overlays: run the test by scripts/in-ns.
func New(t *testing.T) *Stand {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts overlays: run it as root, by scripts/test")
	}
	dir := t.TempDir()
	s := &Stand{T: t, Dir: dir}
	s.must(os.MkdirAll(filepath.Join(dir, "l"), 0o755))
	s.bottom(s.layer("0"))
	s.top(s.layer("1"))
	serial, err := device.SerialFromUint32(0x5b154510)
	s.must(err)
	s.Uppers = overlay.UppersOf(filepath.Join(dir, "devices"), serial)
	s.Rebase()
	return s
}

// Rebase finds the base anew, after layers were made by the test.
func (s *Stand) Rebase() {
	s.Helper()
	digests := make([]string, len(s.Layers))
	for i, l := range s.Layers {
		digests[i] = filepath.Base(l)
	}
	var err error
	s.Base, err = overlay.BaseOf(digests, s.Layers)
	s.must(err)
}

func (s *Stand) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *Stand) layer(name string) string {
	l := filepath.Join(s.Dir, "l", name)
	s.must(os.Mkdir(l, 0o755))
	s.Layers = append(s.Layers, l)
	return l
}

// Write makes a file with its parents.
func (s *Stand) Write(path, text string) {
	s.Helper()
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(text), 0o644))
}

func (s *Stand) bottom(l string) {
	for i := range 4 {
		for j := range 5 {
			s.Write(filepath.Join(l, fmt.Sprintf("d%d/e%d/f", i, j)), fmt.Sprintf("bottom %d %d", i, j))
			s.Write(filepath.Join(l, fmt.Sprintf("d%d/g%d", i, j)), strings.Repeat("g", 100*j))
		}
	}
	for i := range 4 { // three names of one file, two directories apart
		first := filepath.Join(l, fmt.Sprintf("d%d/hard", i))
		s.Write(first, fmt.Sprintf("hard %d", i))
		s.must(os.Link(first, filepath.Join(l, fmt.Sprintf("d%d/e0/hard2", i))))
		s.must(os.Link(first, filepath.Join(l, fmt.Sprintf("d%d/hard3", (i+1)%4))))
	}
	s.Write(filepath.Join(l, "suid"), "#!")
	s.must(os.Chmod(filepath.Join(l, "suid"), 0o755|os.ModeSetuid))
	s.must(os.Chown(filepath.Join(l, "d1/g1"), 1000, 1001))
	s.must(unix.Setxattr(filepath.Join(l, "d1/g1"), "user.color", []byte("red"), 0))
	s.must(unix.Setxattr(filepath.Join(l, "d2"), "user.color", []byte("blue"), 0))
	s.must(os.Symlink("d1/g1", filepath.Join(l, "link")))
	s.must(unix.Mkfifo(filepath.Join(l, "fifo"), 0o600))
	f, err := os.Create(filepath.Join(l, "sparse"))
	s.must(err)
	_, err = f.WriteAt([]byte("end"), 3<<20)
	s.must(errors.Join(err, f.Close()))
}

func (s *Stand) top(l string) {
	s.Write(filepath.Join(l, "d0/g0"), "of the top layer")
	s.Write(filepath.Join(l, "d0/e1/new"), "new in the top layer")
	s.must(os.MkdirAll(filepath.Join(l, "d3"), 0o755))
	s.must(unix.Mknod(filepath.Join(l, "d3/g1"), unix.S_IFCHR, 0)) // a whiteout
	s.must(os.MkdirAll(filepath.Join(l, "d3/e2"), 0o755))
	s.must(unix.Setxattr(filepath.Join(l, "d3/e2"), "trusted.overlay.opaque", []byte("y"), 0))
	s.Write(filepath.Join(l, "d3/e2/only"), "below an opaque directory")
}

// NewUpper makes an empty upper and gives the spec of its mount.
func (s *Stand) NewUpper() overlay.Spec {
	s.Helper()
	s.last++
	id, err := s.Uppers.Create(s.Base, s.last, s.Layers[len(s.Layers)-1])
	s.must(err)
	return s.Spec(id)
}

// Spec is the mount of an upper.
func (s *Stand) Spec(id overlay.UpperID) overlay.Spec {
	s.last = max(s.last, id.N())
	return overlay.Spec{
		Serial: s.Uppers.Serial, Base: s.Base, LayerDirs: s.Layers, UpperDir: s.Uppers.Path(id), UpperID: id,
		Target: filepath.Join(s.Dir, "roots", fmt.Sprint(id.N())),
	}
}

// Mount mounts an upper; it is unmounted when the test ends.
func (s *Stand) Mount(spec overlay.Spec) overlay.Root {
	s.Helper()
	root, err := overlay.Mount(context.Background(), spec)
	s.must(err)
	s.Cleanup(func() { unix.Unmount(spec.Target, unix.MNT_DETACH) })
	return root
}

// Unmount unmounts a root.
func (s *Stand) Unmount(r overlay.Root) {
	s.Helper()
	s.must(overlay.Unmount(context.Background(), r))
}

// Remount forgets what the kernel knows of a root's names.
func (s *Stand) Remount(spec overlay.Spec, r overlay.Root) overlay.Root {
	s.Helper()
	s.Unmount(r)
	return s.Mount(spec)
}

// WriteByHandle writes to a file that the kernel knows no name of, as the NFS
// server does after a restart of the machine.
func (s *Stand) WriteByHandle(spec overlay.Spec, r overlay.Root, name, text string) overlay.Root {
	s.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(r.Target, name), 0)
	s.must(err)
	r = s.Remount(spec, r)
	mnt, err := os.Open(r.Target)
	s.must(err)
	defer mnt.Close()
	fd, err := unix.OpenByHandleAt(int(mnt.Fd()), h, unix.O_RDWR)
	s.must(err)
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteAt([]byte(text), 0)
	s.must(errors.Join(err, f.Close()))
	return r
}

// Scramble does n things to a root that a board does to its files, as the random
// numbers have it.
func (s *Stand) Scramble(rng *rand.Rand, spec overlay.Spec, r overlay.Root, n int) overlay.Root {
	s.Helper()
	for range n {
		s.fresh++
		i := s.fresh
		var files, dirs []string
		s.must(filepath.WalkDir(r.Target, func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || p == r.Target:
			case d.IsDir():
				dirs = append(dirs, p)
			default:
				files = append(files, p)
			}
			return err
		}))
		if len(files) == 0 || len(dirs) == 0 {
			return r
		}
		file, dir := files[rng.IntN(len(files))], dirs[rng.IntN(len(dirs))]
		other := dirs[rng.IntN(len(dirs))]
		fresh := filepath.Join(other, fmt.Sprintf("n%d", i))
		regular := false
		if fi, err := os.Lstat(file); err == nil {
			regular = fi.Mode().IsRegular()
		}
		var err error
		switch rng.IntN(13) {
		case 0, 1:
			err = os.WriteFile(fresh, []byte(fresh), 0o640)
		case 2, 3:
			if regular {
				err = appendTo(file, fmt.Sprint(i))
			}
		case 4:
			err = os.Rename(file, fresh)
		case 5:
			if !strings.HasPrefix(other+"/", dir+"/") {
				err = os.Rename(dir, fresh)
			}
		case 6:
			err = os.Link(file, fresh)
		case 7:
			err = os.Remove(file)
		case 8:
			if rng.IntN(4) == 0 {
				err = os.RemoveAll(dir)
				if rng.IntN(2) == 0 { // made again: opaque
					err = errors.Join(err, os.Mkdir(dir, 0o750))
				}
			}
		case 9:
			err = os.Lchown(file, rng.IntN(3000), 7)
		case 10:
			err = errors.Join(os.Mkdir(fresh, 0o700), os.Symlink("x", filepath.Join(fresh, "l")), unix.Mkfifo(filepath.Join(fresh, "p"), 0o600))
		case 11:
			if regular {
				rel, _ := filepath.Rel(r.Target, file)
				r = s.WriteByHandle(spec, r, rel, "by handle "+fmt.Sprint(i))
			}
		case 12:
			err = unix.Setxattr(dir, "user.n", []byte(fmt.Sprint(i)), 0)
		}
		s.must(err)
	}
	return r
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Sum lists a directory: names, content, attributes, hard links.
func (s *Stand) Sum(dir string) string {
	s.Helper()
	f, err := os.Open(dir)
	s.must(err)
	defer f.Close()
	entries, err := treesum.Tree(context.Background(), int(f.Fd()), nil)
	s.must(err)
	return listing(entries)
}

func listing(entries []treesum.Entry) string {
	var b strings.Builder
	var line []byte
	for i := range entries {
		line, _ = entries[i].AppendText(line[:0])
		b.Write(append(line, '\n'))
	}
	return b.String()
}

// SumView is Sum of a view.
func (s *Stand) SumView(v *layered.View) string {
	s.Helper()
	var names []treesum.Name
	known := map[layered.ID]*treesum.Entry{}
	var walk func(n *layered.Node)
	walk = func(n *layered.Node) {
		e := known[n.ID()]
		if e == nil || n.IsDir() {
			e = treesum.FromStat(&n.Stat)
			known[n.ID()] = e
			s.describe(v, n, e)
		}
		names = append(names, treesum.Name{Path: n.Path, Inode: e})
		if !n.IsDir() {
			return
		}
		list, err := v.List(n)
		s.must(err)
		for _, c := range list {
			walk(c)
		}
	}
	root, err := v.Root()
	s.must(err)
	walk(root)
	return listing(treesum.Entries(names))
}

func (s *Stand) describe(v *layered.View, n *layered.Node, e *treesum.Entry) {
	s.Helper()
	var err error
	e.Xattrs, err = v.Xattrs(n)
	s.must(err)
	for k := range e.Xattrs {
		if !treesum.Counted(k) {
			delete(e.Xattrs, k)
		}
	}
	switch {
	case e.Type == treesum.Symlink:
		e.Target, err = v.Readlink(n)
		s.must(err)
	case e.Type == treesum.File:
		f, err := v.Open(n)
		s.must(err)
		defer f.Close()
		blocks := treesum.NewBlocks(e.Size)
		buf := make([]byte, treesum.BlockSize)
		for off := int64(0); off < e.Size; off += treesum.BlockSize {
			b := buf[:min(e.Size-off, treesum.BlockSize)]
			s.must(treesum.ReadAt(int(f.Fd()), b, off))
			blocks.Put(off/treesum.BlockSize, b)
		}
		e.Sum = blocks.Sum()
	}
}

package bootset

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot/bootfs"
)

// source is a root on disk with the boot directory b and one layer.
type source struct {
	*bootfs.Own
	t     *testing.T
	root  string
	layer string
	// touched is called when a file is opened.
	touched func(name string)
}

func (s source) Open(name string) (*bootfs.File, error) {
	f, err := s.Own.Look(name)
	if s.touched != nil {
		s.touched(name)
	}
	return f, err
}

// Layer links files of the layer into the root, so that they are the very ones.
func (s source) Layer(name string, f *bootfs.File) (string, string, bool) {
	m := Mounted{BootDir: "b", Upper: filepath.Join(s.root, "none"), LayerDir: func(string) string { return s.layer }}
	g := openLayers(&m, []string{"layer"})
	defer g.close()
	d, ok := g.find(name, f)
	return d, "b/" + name, ok
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func newSource(t *testing.T) source {
	t.Helper()
	dir := t.TempDir()
	s := source{t: t, root: filepath.Join(dir, "root"), layer: filepath.Join(dir, "layer")}
	write(t, filepath.Join(s.layer, "b/start4.elf"), "firmware")
	write(t, filepath.Join(s.root, "b/kernel8.img"), "kernel 1")
	write(t, filepath.Join(s.root, "b/other"), "not of the set")
	if err := os.Link(filepath.Join(s.layer, "b/start4.elf"), filepath.Join(s.root, "b/start4.elf")); err != nil {
		t.Fatal(err)
	}
	own, err := bootfs.Tree{Root: s.root, BootDir: "b"}.Own()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	s.Own = own
	return s
}

func (s source) store() *Store {
	return &Store{Dir: filepath.Join(s.root, "../kept"), LayerDir: func(string) string { return s.layer }, Now: time.Now}
}

func (s source) take() *Set {
	s.t.Helper()
	set, err := s.store().Take(s, s.report())
	if err != nil {
		s.t.Fatal(err)
	}
	return set
}

func (s source) report() Report {
	return Report{Files: []string{"kernel8.img", "start4.elf"}, Kernels: []string{"kernel8.img"}}
}

func read(t *testing.T, files bootfs.Files, name string) string {
	t.Helper()
	f, err := files.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func objects(s source) int {
	entries, _ := os.ReadDir(filepath.Join(s.store().Dir, objectsName))
	return len(entries)
}

func TestTake(t *testing.T) {
	s := newSource(t)
	set := s.take()
	served := s.store().Serve(set, s.Own.Open)
	if e := set.entry("start4.elf"); e.Layer != "layer" || e.Sum != "" || objects(s) != 1 {
		t.Errorf("a layer's file is copied: %+v, %d copies", e, objects(s))
	}
	write(t, filepath.Join(s.root, "b/kernel8.img"), "kernel 2")
	write(t, filepath.Join(s.root, "b/late"), "came later")
	if got := read(t, served, "KERNEL8.img"); got != "kernel 1" {
		t.Errorf("the kept kernel reads %q", got)
	}
	if got := read(t, served, "start4.elf"); got != "firmware" {
		t.Errorf("the layer's file reads %q", got)
	}
	if got := read(t, served, "other"); got != "not of the set" {
		t.Errorf("a file that is none of the set reads %q", got)
	}
	if _, err := served.Open("late"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that came later: %v", err)
	}
	// Two sets at most are kept: this one, and the last good one.
	if err := s.store().MarkGood(set); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"kernel 3", "kernel 4", "kernel 5"} {
		write(t, filepath.Join(s.root, "b/kernel8.img"), text)
		if next := s.take(); next.Key == set.Key {
			t.Error("another kernel, and the same key")
		}
	}
	good, err := s.store().LastGood()
	if err != nil || read(t, s.store().Serve(good, nil), "kernel8.img") != "kernel 1" || objects(s) != 2 {
		t.Errorf("last good %v, %d copies", err, objects(s))
	}
	write(t, filepath.Join(s.root, "b/kernel8.img"), "kernel 1")
	if again := s.take(); again.Key != set.Key || objects(s) != 1 {
		t.Errorf("the same content has another key, or is kept twice: %d copies", objects(s))
	}
	if err := s.store().Forget(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.store().Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

// A set is of one moment: files that change while it is taken begin it anew.
func TestTakeWhileWritten(t *testing.T) {
	s := newSource(t)
	n := 0
	s.touched = func(name string) {
		if n++; name == "kernel8.img" && n < 3 {
			write(t, filepath.Join(s.root, "b/kernel8.img"), strings.Repeat("k", 100+n))
		}
	}
	set := s.take()
	if got := read(t, s.store().Serve(set, nil), "kernel8.img"); got != strings.Repeat("k", 101) {
		t.Errorf("%d opens, kept %q", n, got)
	}
	s.touched = func(string) {
		n++
		write(t, filepath.Join(s.root, "b/kernel8.img"), strings.Repeat("k", n))
	}
	if _, err := s.store().Take(s, s.report()); !errors.Is(err, ErrChanging) {
		t.Errorf("files that never rest: %v", err)
	}
	if objects(s) != 1 {
		t.Errorf("%d copies of one set", objects(s))
	}
	if got := read(t, s.store().Serve(set, nil), "kernel8.img"); got != strings.Repeat("k", 101) {
		t.Errorf("the set before reads %q", got)
	}
}

// What a crash leaves is no set, and goes with the next one.
func TestTakeAfterACrash(t *testing.T) {
	s := newSource(t)
	s.take()
	write(t, filepath.Join(s.store().Dir, objectsName, tmpPrefix+"1"), "half")
	write(t, filepath.Join(s.store().Dir, objectsName, strings.Repeat("0", 64)), "of a set that was never written")
	s.take()
	if objects(s) != 1 {
		t.Errorf("%d copies", objects(s))
	}
	// A copy that was spoilt is noticed, and made again.
	set := s.take()
	path := s.store().object(set.entry("kernel8.img").Sum)
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store().Serve(set, nil).Open("kernel8.img"); err == nil {
		t.Error("a spoilt copy is served")
	}
	if got := read(t, s.store().Serve(s.take(), nil), "kernel8.img"); got != "kernel 1" {
		t.Errorf("it is %q after all", got)
	}
	write(t, filepath.Join(s.store().Dir, historyName), "{\"last\": ")
	if h, err := s.store().History(); err == nil || h.Last.ID != "" {
		t.Errorf("a torn history is %+v, %v", h, err)
	}
}

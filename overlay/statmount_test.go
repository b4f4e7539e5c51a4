package overlay

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel says of one mount is what the table of all says of it.
func TestStatMount(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "a", "with space\n,", "link"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Symlink("a", at("to-a")); err != nil {
		t.Fatal(err)
	}
	mount := func(source, target, fs, data string) {
		t.Helper()
		if err := unix.Mount(source, target, fs, unix.MS_NODEV, data); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	const source = "rubus:5b154510:0123456789abcdef:0123456789abcdef.1"
	mount("below", at("a"), "tmpfs", "size=1m")
	mount(source, at("a"), "overlay", "index=on,nfs_export=on,lowerdir="+at("lower")+",upperdir="+at("upper")+",workdir="+at("work"))
	mount("other", at("with space\n,"), "tmpfs", "size=1m,mode=700")
	for _, target := range []string{"a", "to-a", "with space\n,"} {
		want, err := mountInTable(realPath(at(target)))
		if err != nil || want == nil {
			t.Fatalf("%q: %v, %v", target, want, err)
		}
		got, err := topMount(at(target), realPath(at(target)))
		if errors.Is(err, errNoStatMount) {
			t.Logf("%v: this kernel's mounts are read from the table", err)
			return
		}
		if err != nil || got == nil {
			t.Fatalf("%q: %v, %v", target, got, err)
		}
		if got.ID != want.ID || got.FSType != want.FSType || got.Root != want.Root || got.Source != want.Source || got.Mountpoint != want.Mountpoint {
			t.Errorf("%q is told as\n%+v, and in the table\n%+v", target, got, want)
		}
		for _, o := range strings.Split(want.VFSOptions, ",") {
			if k, v, _ := strings.Cut(o, "="); k != "rw" {
				if have, ok := superOption(got, k); !ok || have != v {
					t.Errorf("%q: option %q is %q (%v)", target, o, have, ok)
				}
			}
		}
	}
	for _, target := range []string{"link", "lower", "missing", "a/missing"} {
		if got, err := topMount(at(target), realPath(at(target))); err != nil || got != nil {
			t.Errorf("%q is told as a mount: %+v, %v", target, got, err)
		}
	}
}

// A kernel that leaves something out is not believed, and no answer is read past its end.
func TestParseStatMount(t *testing.T) {
	b := make([]byte, statMountHeader+8)
	if _, err := parseStatMount(b); !errors.Is(err, errNoStatMount) {
		t.Errorf("an answer without anything: %v", err)
	}
	b[8], b[9] = 0xff, 0xff
	b[124], b[statMountHeader] = 0, 'x'
	if m, err := parseStatMount(b); err != nil || m.Source != "x" {
		t.Errorf("an answer with all: %+v, %v", m, err)
	}
	without := bytes.Clone(b)
	without[9] &^= statMountSource >> 8
	if m, err := parseStatMount(without); err != nil || m.Source != "" {
		t.Errorf("an answer without a source: %+v, %v", m, err)
	}
	for _, at := range []int{4, 36, 104, 124} {
		b[at], b[at+1] = 0xff, 0xff
	}
	if m, err := parseStatMount(b); err != nil || m.Source != "" {
		t.Errorf("strings past the end: %+v, %v", m, err)
	}
	if _, err := parseStatMount(b[:100]); err == nil {
		t.Error("half an answer is taken")
	}
}

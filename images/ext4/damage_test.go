package ext4_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images/ext4"
)

// What can't be read right is refused, in words.
func TestRefused(t *testing.T) {
	small := t.TempDir()
	must(t, os.WriteFile(filepath.Join(small, "file"), []byte("x"), 0o600))
	pristine, err := os.ReadFile(mkfs(t, small, "2M", "-b", "1024"))
	must(t, err)
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"not unmounted":       {feature(0x60, 4), "not unmounted cleanly"},
		"unknown feature":     {feature(0x60, 1<<30), "checksum"},
		"superblock":          {flip(1024 + 0x78), "superblock's checksum"},
		"cut off":             {func(b []byte) []byte { return b[:1<<20] }, "is it cut off?"},
		"cut in the first KB": {func(b []byte) []byte { return b[:1100] }, "superblock"},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.change(bytes.Clone(pristine))
			_, err := ext4.Open(bytes.NewReader(b), int64(len(b)))
			if err == nil || !strings.Contains(err.Error(), c.want) && name != "unknown feature" {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func feature(at int, bit uint32) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[1024+at:], binary.LittleEndian.Uint32(b[1024+at:])|bit)
		return b
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0xff; return b }
}

// readAll reads everything there is, as an import does. It must end.
func readAll(b []byte) (names int, err error) {
	fs, err := ext4.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return 0, err
	}
	todo := []uint32{ext4.Root}
	seen := map[uint32]bool{}
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		if seen[n] {
			continue
		}
		seen[n] = true
		i, err := fs.Inode(n)
		if err != nil {
			return names, err
		}
		if _, err := fs.Xattrs(i); err != nil {
			return names, err
		}
		switch i.Type() {
		case unix.S_IFDIR:
			list, err := fs.ReadDir(i)
			if err != nil {
				return names, err
			}
			for _, d := range list {
				names++
				todo = append(todo, d.Inode)
			}
		case unix.S_IFLNK:
			if _, err := fs.Readlink(i); err != nil {
				return names, err
			}
		case unix.S_IFREG:
			c, err := fs.Content(i)
			if err != nil {
				return names, err
			}
			buf := make([]byte, 4096)
			for off := c.NextData(0); off < c.Size(); off = c.NextData(off + int64(len(buf))) {
				if _, err := c.ReadAt(buf, off); err != nil && err != io.EOF {
					return names, err
				}
			}
		}
	}
	return names, nil
}

// Whatever single byte is damaged: with checksums, metadata that is read is either right or refused.
func TestDamage(t *testing.T) {
	small := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(small, "d/e"), 0o755))
	must(t, os.WriteFile(filepath.Join(small, "d/file"), []byte("x"), 0o600))
	pristine, err := os.ReadFile(mkfs(t, small, "256K", "-b", "1024", "-N", "16", "-O", "^has_journal,^resize_inode,metadata_csum"))
	must(t, err)
	whole, err := readAll(pristine)
	must(t, err)
	refused, empty := 0, make([]byte, 1024)
	b := bytes.Clone(pristine)
	for at := 1024; at < len(b); at += 3 {
		if bytes.Equal(pristine[at&^1023:][:1024], empty) {
			at |= 1023 // one byte of a block that holds nothing will do
		}
		b[at] ^= 0x41
		n, err := readAll(b)
		b[at] = pristine[at]
		switch {
		case err != nil && !errors.Is(err, ext4.ErrCorrupt) && !errors.Is(err, ext4.ErrUnsupported):
			t.Errorf("byte %d: %v", at, err)
		case err != nil:
			refused++
		case n != whole:
			t.Errorf("byte %d: %d names instead of %d, and no error", at, n, whole)
		}
	}
	if refused < 500 {
		t.Errorf("only %d damages were noticed", refused)
	}
}

func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	must(f, os.MkdirAll(filepath.Join(dir, "d/e"), 0o755))
	must(f, os.WriteFile(filepath.Join(dir, "d/file"), bytes.Repeat([]byte("x"), 5000), 0o600))
	must(f, os.Symlink("d/file", filepath.Join(dir, "link")))
	must(f, unix.Setxattr(filepath.Join(dir, "d/file"), "user.a", []byte("b"), 0))
	for _, args := range [][]string{
		{"-O", "^has_journal,^resize_inode,^metadata_csum"},
		{"-O", "^has_journal,^resize_inode,^metadata_csum,^extent,^64bit"},
		{"-O", "^has_journal,^resize_inode,^metadata_csum,inline_data"},
	} {
		b, err := os.ReadFile(mkfs(f, dir, "80K", append(args, "-b", "1024", "-N", "16")...))
		must(f, err)
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = readAll(b) })
}

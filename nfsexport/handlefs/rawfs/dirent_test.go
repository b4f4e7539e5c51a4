package rawfs

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// dirent is an entry as the kernel gives it, of a length that may be a lie; 0: its own.
func dirent(ino uint64, typ uint8, name string, length uint16) []byte {
	b := binary.NativeEndian.AppendUint64(nil, ino)
	b = binary.NativeEndian.AppendUint64(b, 77) // the offset
	if length == 0 {
		length = uint16(direntHeader + len(name))
	}
	b = binary.NativeEndian.AppendUint16(b, length)
	return append(append(b, typ), name...)
}

func TestDirent(t *testing.T) {
	type entry struct {
		ino  uint64
		typ  uint8
		name string
	}
	f := dirent(5, unix.DT_REG, "f\x00\x00\x00\x00", 0)
	for name, c := range map[string]struct {
		buf  []byte
		want []entry
	}{
		"nothing":                     {nil, nil},
		"one":                         {f, []entry{{5, unix.DT_REG, "f"}}},
		"two":                         {slices.Concat(f, dirent(6, unix.DT_DIR, "dir\x00", 0)), []entry{{5, unix.DT_REG, "f"}, {6, unix.DT_DIR, "dir"}}},
		"no NUL":                      {dirent(5, unix.DT_REG, "name", 0), []entry{{5, unix.DT_REG, "name"}}},
		"no name":                     {dirent(5, unix.DT_REG, "", 0), []entry{{5, unix.DT_REG, ""}}},
		"one and a part of the next":  {slices.Concat(f, f[:len(f)-1]), []entry{{5, unix.DT_REG, "f"}}},
		"one and a byte":              {slices.Concat(f, []byte{1}), []entry{{5, unix.DT_REG, "f"}}},
		"longer than there is":        {dirent(5, unix.DT_REG, "f\x00", 64), nil},
		"shorter than it can be":      {dirent(5, unix.DT_REG, "f\x00", direntHeader-1), nil},
		"of no length, for ever":      {slices.Concat(f, dirent(5, unix.DT_REG, "f\x00", 1)), []entry{{5, unix.DT_REG, "f"}}},
		"as long as a length can say": {dirent(5, unix.DT_REG, "f\x00", 1<<16-1), nil},
	} {
		var got []entry
		var d Dirent
		for rest, ok := d.Next(c.buf); ok; rest, ok = d.Next(rest) {
			got = append(got, entry{d.Ino, d.Type, string(d.Name)})
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestReadDir: what is in a directory, asked for in small parts, is what package os finds.
func TestReadDir(t *testing.T) {
	w := newWorld(t)
	var got []string
	buf := make([]byte, 280)
	for {
		n, e := ReadDir(w.dir, buf)
		if e != 0 {
			t.Fatal(e)
		}
		if n == 0 {
			break
		}
		var d Dirent
		for rest, ok := d.Next(buf[:n]); ok; rest, ok = d.Next(rest) {
			var st unix.Stat_t
			if e := StatAt(w.dir, named(string(d.Name)), &st); e != 0 {
				t.Errorf("%q: %v", d.Name, e)
			}
			if d.IsDots() {
				continue
			}
			if st.Ino != d.Ino || d.Type != unix.DT_UNKNOWN && uint32(d.Type)<<12 != st.Mode&unix.S_IFMT {
				t.Errorf("%q: inode %d, type %d; it is %d, mode %o", d.Name, d.Ino, d.Type, st.Ino, st.Mode)
			}
			got = append(got, string(d.Name))
		}
	}
	var want []string
	all, err := os.ReadDir(w.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		want = append(want, e.Name())
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, e := ReadDir(w.open(t, "f", unix.O_RDONLY), buf); e != unix.ENOTDIR {
		t.Errorf("a file: %v", e)
	}
}

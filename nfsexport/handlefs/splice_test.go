package handlefs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// TestSplice: what is sent from a file's pages is of golden files only, which nobody can
// write to meanwhile; of all others, and where it costs more, the buffer is filled. Either
// way the same bytes are answered.
func TestSplice(t *testing.T) {
	const size = 100 << 10
	golden := []byte(strings.Repeat("golden! ", size/8))
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		for _, name := range []string{"golden", "written", "chmod", "emptied", "linked", "late"} {
			if err := os.WriteFile(filepath.Join(lower, name), golden, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Link(filepath.Join(lower, "linked"), filepath.Join(lower, "name")); err != nil {
			t.Fatal(err)
		}
	})
	settle()
	lookup := func(name string) []byte {
		var h []byte
		var a nfs3.PostAttr
		if st := w.Lookup(&w.call, w.root, name, &h, &a, &a); st != nfs3.OK {
			t.Fatalf("%s: status %d", name, st)
		}
		return h
	}
	write := func(h []byte, off uint64, b []byte) {
		var wcc nfs3.Wcc
		if n, _, st := w.Write(&w.call, h, off, b, nfs3.Unstable, &wcc); st != nfs3.OK || n != len(b) {
			t.Fatalf("WRITE: %d bytes, status %d", n, st)
		}
	}
	set := func(h []byte, s nfs3.SetAttr) {
		var wcc nfs3.Wcc
		if st := w.SetAttr(&w.call, h, &s, nil, &wcc); st != nfs3.OK {
			t.Fatalf("SETATTR: status %d", st)
		}
	}
	changed := bytes.Clone(golden)
	copy(changed[50<<10:], "changed")
	own := w.create(t, &w.call, "own", 0o644)
	write(own, 0, golden)
	write(lookup("written"), 50<<10, []byte("changed"))
	write(lookup("linked"), 50<<10, []byte("changed"))
	set(lookup("chmod"), nfs3.SetAttr{SetMode: true, Mode: 0o600})
	set(lookup("emptied"), nfs3.SetAttr{SetSize: true})

	// takes is how many bytes Splice takes; -1: as many as it is asked for.
	read := func(t *testing.T, name string, off uint64, count, takes int) (data []byte, eof, spliced bool) {
		t.Helper()
		call := w.call
		call.Splice = func(fd int, at int64, n int) int {
			if takes >= 0 {
				n = min(n, takes)
			}
			data = make([]byte, n)
			got, err := unix.Pread(fd, data, at)
			if err != nil || got != n || n > count {
				t.Errorf("asked to splice %d bytes at %d, which gave %d, %v", n, at, got, err)
			}
			spliced = n > 0
			return n
		}
		var a nfs3.PostAttr
		buf := make([]byte, count)
		n, eof, st := w.Read(&call, lookup(name), off, buf, &a)
		if st != nfs3.OK || !a.OK {
			t.Fatalf("READ: status %d", st)
		}
		if spliced {
			if n != len(data) {
				t.Errorf("READ gave %d bytes, %d were spliced", n, len(data))
			}
			return data, eof, true
		}
		return buf[:n], eof, false
	}
	cases := []struct {
		name    string
		off     uint64
		count   int
		takes   int
		want    []byte
		eof     bool
		spliced bool
	}{
		{"golden", 0, 64 << 10, -1, golden[:64<<10], false, true},
		{"golden", 0, size, -1, golden, true, true},
		{"golden", 0, 1 << 20, -1, golden, true, true},
		{"golden", size - 32<<10, 1 << 20, -1, golden[size-32<<10:], true, true},
		{"golden", size - 32<<10 + 1, 1 << 20, -1, golden[size-32<<10+1:], true, false},
		{"golden", 0, 16 << 10, -1, golden[:16<<10], false, false},
		{"golden", size, 1 << 20, -1, nil, true, false},
		{"golden", 0, size, 4096, golden[:4096], false, true}, // what follows cannot be read
		{"golden", 0, size, 0, golden, true, false},
		{"own", 0, size, -1, golden, true, false},
		{"written", 0, size, -1, changed, true, false},
		{"linked", 0, size, -1, changed, true, false},
		{"name", 0, size, -1, changed, true, false},
		{"chmod", 0, size, -1, golden, true, false},
		{"emptied", 0, size, -1, nil, true, false},
	}
	check := func(t *testing.T) {
		for _, c := range cases {
			data, eof, spliced := read(t, c.name, c.off, c.count, c.takes)
			if !bytes.Equal(data, c.want) || eof != c.eof || spliced != c.spliced {
				t.Errorf("%s, %d bytes at %d: %d bytes, eof %v, spliced %v; want %d, %v, %v",
					c.name, c.count, c.off, len(data), eof, spliced, len(c.want), c.eof, c.spliced)
			}
		}
	}
	t.Run("as it is", check)
	t.Run("as it is, which is known", check)
	t.Run("copied up since", func(t *testing.T) {
		h := lookup("late")
		for _, c := range []struct {
			what    string
			change  func()
			spliced bool
		}{
			{"read", func() {}, true},
			{"read again", func() {}, true},
			{"another changed", func() { set(own, nfs3.SetAttr{SetMode: true, Mode: 0o640}) }, true},
			{"mode set", func() { set(h, nfs3.SetAttr{SetMode: true, Mode: 0o640}) }, false},
			{"written", func() { write(h, 50<<10, []byte("changed")) }, false},
		} {
			c.change()
			want := golden
			if c.what == "written" {
				want = changed
			}
			if data, _, spliced := read(t, "late", 0, size, -1); spliced != c.spliced || !bytes.Equal(data, want) {
				t.Errorf("%s: %d bytes, spliced %v", c.what, len(data), spliced)
			}
		}
	})
	// Nothing is open any more, and what was written to is known by the disk only.
	w.Close()
	w.FS = newFS(t, Options{})
	w.publish(t)
	t.Run("after a restart", check)
	w.Close()
	w.FS = newFS(t, Options{})
	w.exp.Index = ""
	w.publish(t)
	for i := range cases {
		cases[i].spliced = false
	}
	t.Run("without the index", func(t *testing.T) {
		for _, c := range cases {
			if c.takes >= 0 {
				continue
			}
			if data, _, spliced := read(t, c.name, c.off, c.count, -1); spliced || !bytes.Equal(data, c.want) {
				t.Errorf("%s: %d bytes, spliced %v", c.name, len(data), spliced)
			}
		}
	})
}

package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/rawfs"
)

// read lists a directory that has these files.
func read(t *testing.T, names ...string) *listing.Listing {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	l := listing.New(listing.Moment{}, true)
	if e := l.Read(fd, make([]byte, rawfs.DirBuf), 0, listing.Large, func() {}); e != 0 {
		t.Fatal(e)
	}
	return l
}

func keyOf(n byte) (k fhandle.Key) {
	k[len(k)-1] = n
	return k
}

// TestOf: boards of an image share what one of them has found, for as long as the directory is
// what it was, and nobody else does.
func TestOf(t *testing.T) {
	was := read(t, "a", "b")
	mine, other := keyOf(1), keyOf(2)
	mine.SetExport(7)
	board := mine
	board.SetExport(8)
	for _, c := range []struct {
		name  string
		image uint64
		dir   fhandle.Key
		is    Stat
		list  *listing.Listing
		found bool // by its ID
		same  bool
	}{
		{"the same board", 1, mine, Stat{Dev: 5}, was, true, true},
		{"another board", 1, board, Stat{Dev: 5}, was.Fork(), true, true},
		{"another image", 2, mine, Stat{Dev: 5}, was, false, false},
		{"another directory", 1, other, Stat{Dev: 5}, was, false, false},
		{"the directory is another", 1, mine, Stat{Dev: 6}, was, true, false},
		{"it has other names", 1, mine, Stat{Dev: 5}, read(t, "a", "c"), true, false},
		{"it has other files", 1, mine, Stat{Dev: 5}, read(t, "a", "b"), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := New(Most)
			id := IDOf(1, &mine)
			shared := table.Of(&id, &Stat{Dev: 5}, was)
			id = IDOf(c.image, &c.dir)
			d := table.Find(&id)
			if d != nil != c.found || d != nil && d.Is(&c.is) != (c.is.Dev == 5) {
				t.Errorf("found: %+v", d)
			}
			now := table.Of(&id, &c.is, c.list)
			if now == shared != c.same {
				t.Errorf("they share it: %v", !c.same)
			}
			if d := table.Find(&id); d == nil || d.List != now || !d.Is(&c.is) {
				t.Errorf("afterwards %+v is remembered", d)
			}
		})
	}
}

// TestBound: the oldest go, whoever adds at once.
func TestBound(t *testing.T) {
	l := read(t, "a", "b", "c")
	table := New(3*l.Bytes() + l.Bytes()/2)
	ids := make([]ID, 8)
	for i := range ids {
		k := keyOf(byte(i))
		ids[i] = IDOf(1, &k)
		if table.Of(&ids[i], &Stat{}, l) == nil {
			t.Errorf("there is no room for directory %d", i)
		}
	}
	known := ""
	for i := range ids {
		if table.Find(&ids[i]) != nil {
			known += fmt.Sprint(i)
		}
	}
	if known != "567" {
		t.Errorf("of eight these are remembered: %s", known)
	}
	for i := range 9 { // it changes over and over
		if table.Of(&ids[7], &Stat{Dev: uint64(i)}, l); len(table.m) != 3 || table.order.Len() != 3 || table.bytes != 3*l.Bytes() {
			t.Fatalf("%d directories of %d are remembered, %d bytes", len(table.m), table.order.Len(), table.bytes)
		}
	}
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 1000 {
				table.Of(&ids[(i*(n+1))%len(ids)], &Stat{Dev: uint64(i % 2)}, l)
			}
		})
	}
	all.Wait()
	sum := 0
	for e := table.order.Front(); e != nil; e = e.Next() {
		sum += e.Value.(*Directory).List.Bytes()
	}
	if sum != table.bytes || sum > table.most || len(table.m) != table.order.Len() || len(table.m) != 3 {
		t.Errorf("%d directories, %d bytes in %d of %d", len(table.m), sum, table.bytes, table.most)
	}
	small := New(l.Bytes())
	if small.Of(&ids[0], &Stat{}, l) != nil || small.Find(&ids[0]) != nil {
		t.Error("what has no room is remembered")
	}
}

package handlefs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

type listed struct {
	name   string
	cookie uint64
	handle []byte
	attr   nfs3.PostAttr
}

// some lists at most n entries after cookie.
func (w *world) some(t testing.TB, dir []byte, cookie uint64, n int, plus bool) (out []listed, eof bool) {
	t.Helper()
	var verf uint64
	var a nfs3.PostAttr
	eof, st := w.ReadDir(&w.call, dir, cookie, &verf, plus, nfs3.EntryFunc(func(e *nfs3.Entry) bool {
		if len(out) == n {
			return false
		}
		if e.Cookie <= cookie || e.Cookie >= 1<<63 {
			t.Errorf("%q has cookie %d after %d", e.Name, e.Cookie, cookie)
		}
		cookie = e.Cookie
		out = append(out, listed{strings.Clone(e.Name), e.Cookie, slices.Clone(e.Handle), e.Attr})
		return true
	}), &a)
	if st != nfs3.OK {
		t.Fatalf("readdir: status %d", st)
	}
	return out, eof
}

func (w *world) all(t testing.TB, dir []byte, n int, plus bool) (out []listed) {
	t.Helper()
	cookie := uint64(0)
	for {
		l, eof := w.some(t, dir, cookie, n, plus)
		out = append(out, l...)
		if eof {
			return out
		}
		cookie = l[len(l)-1].cookie
	}
}

// TestRemoveBetweenReaddirs is what cookies by d_off fail at: golden and new
// files in one directory, removed as they are listed, here with a copy-up, a
// restart and a remount on the way.
func TestRemoveBetweenReaddirs(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		os.Mkdir(lower+"/d", 0o755)
		for i := range 5 {
			write(t, fmt.Sprintf("%s/d/golden%d", lower, i), "golden")
		}
	})
	d := w.lookup(t, "d")
	for i := range 2000 {
		var n nfs3.New
		w.Create(&w.call, d, fmt.Sprintf("new%d", i), nfs3.Guarded, &nfs3.SetAttr{}, 0, &n)
	}
	cookie, step := uint64(0), 0
	for {
		l, eof := w.some(t, d, cookie, 50, step%2 == 0)
		for _, e := range l {
			if cookie = e.cookie; e.name == "." || e.name == ".." {
				continue
			}
			var wcc nfs3.Wcc
			if st := w.Remove(&w.call, d, e.name, &wcc); st != nfs3.OK {
				t.Fatalf("removing %q: status %d", e.name, st)
			}
		}
		if eof {
			break
		}
		switch step++; step {
		case 10:
			w.Close()
			w.FS = newFS(t, Options{})
			w.publish(t)
		case 20:
			w.Close()
			w.ov.Unmount(t)
			w.ov.Mount(t)
			w.FS = newFS(t, Options{})
			w.publish(t)
		}
	}
	if left, err := os.ReadDir(w.ov.Root + "/d"); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	var wcc nfs3.Wcc
	if st := w.Rmdir(&w.call, w.root, "d", &wcc); st != nfs3.OK {
		t.Errorf("rmdir: status %d", st)
	}
}

func TestDots(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) { os.MkdirAll(lower+"/a/b", 0o755) })
	for path, up := range map[string]string{".": ".", "a": ".", "a/b": "a"} {
		l := w.all(t, w.lookup(t, path), 100, true)
		if len(l) < 2 || l[0].name != "." || l[1].name != ".." {
			t.Fatalf("%s: listed %v", path, l)
		}
		if string(l[0].handle) != string(w.lookup(t, path)) || string(l[1].handle) != string(w.lookup(t, up)) {
			t.Errorf("%s: . or .. has another handle", path)
		}
		if !l[0].attr.OK || !l[1].attr.OK || l[1].attr.Type != nfs3.TypeDir {
			t.Errorf("%s: attributes %+v %+v", path, l[0].attr, l[1].attr)
		}
		if l := w.all(t, w.lookup(t, path), 1, false); l[0].name != "." || l[1].name != ".." {
			t.Errorf("%s: one by one: %v", path, l)
		}
	}
}

// TestPlus: READDIRPLUS says what LOOKUP says.
func TestPlus(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		write(t, lower+"/golden", "golden")
		os.Symlink("x", lower+"/link")
		unix.Mknod(lower+"/char", unix.S_IFCHR|0o600, 259)
	})
	w.create(t, &w.call, "new", 0o600)
	for _, e := range w.all(t, w.root, 2, true) {
		var h []byte
		var a, d nfs3.PostAttr
		if st := w.Lookup(&w.call, w.root, e.name, &h, &a, &d); st != nfs3.OK {
			t.Fatalf("lookup %q: status %d", e.name, st)
		}
		if string(h) != string(e.handle) || a != e.attr {
			t.Errorf("%q: %+v, lookup says %+v", e.name, e.attr, a)
		}
	}
}

// TestHuge lists 100,000 entries, and again while it is emptied.
func TestHuge(t *testing.T) {
	const n = 100_000
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		os.Mkdir(lower+"/d", 0o755)
		first := lower + "/d/file000000"
		write(t, first, "")
		for i := 1; i < n; i++ {
			if i%50000 == 0 {
				first = fmt.Sprintf("%s/d/file%06d", lower, i)
				write(t, first, "")
				continue
			}
			if err := os.Link(first, fmt.Sprintf("%s/d/file%06d", lower, i)); err != nil {
				t.Fatal(err)
			}
		}
	})
	d := w.lookup(t, "d")
	seen := map[string]bool{}
	for _, e := range w.all(t, d, 1000, false) {
		if seen[e.name] {
			t.Fatalf("%q twice", e.name)
		}
		seen[e.name] = true
	}
	if len(seen) != n+2 {
		t.Errorf("%d entries", len(seen))
	}
	if got := len(w.all(t, d, 4000, true)); got != n+2 {
		t.Errorf("%d entries with attributes", got)
	}
	if n, _ := w.kept.Size(); n == 0 {
		t.Error("no listing is kept for the next call")
	}
	w.Withdraw(w.exp.ID)
	if n, bytes := w.kept.Size(); n != 0 || bytes != 0 {
		t.Errorf("%d listings of %d bytes are kept after the end", n, bytes)
	}
}

// TestListingsGo: what was read of a directory goes with its object, as nobody finds it any
// more: of one that was closed for want of room, and of one that was removed.
func TestListingsGo(t *testing.T) {
	const dirs = 64
	w := newWorld(t, t.TempDir(), Options{MaxFDs: 10}, true, func(lower string) {
		for i := range dirs {
			must(t, os.Mkdir(fmt.Sprintf("%s/d%d", lower, i), 0o755))
			write(t, fmt.Sprintf("%s/d%d/file", lower, i), "")
		}
	})
	w.stampTime = func() time.Time { return time.Now().Add(time.Hour) } // all is settled
	must(t, w.client().Mkdir("removed", 0o755))
	w.all(t, w.lookup(t, "removed"), 4000, true)
	gone := w.object(t, w.lookup(t, "removed"))
	if gone.listed.Last() == nil {
		t.Fatal("nothing is kept of a directory that was listed")
	}
	must(t, w.client().Rmdir("removed"))
	if gone.listed.Last() != nil {
		t.Error("a listing of a directory that was removed is kept")
	}
	for i := range dirs {
		w.all(t, w.lookup(t, fmt.Sprintf("d%d", i)), 4000, true)
	}
	open, bytes := 0, 0
	for i := range w.cache.shards {
		for _, obj := range w.cache.shards[i].m {
			if l := obj.listed.Last(); l != nil {
				open, bytes = open+1, bytes+l.Bytes()
			}
		}
	}
	if kept, size := w.kept.Size(); kept == 0 || kept != open || size != bytes {
		t.Errorf("%d listings of %d bytes are kept, %d of %d are of directories that are open", kept, size, open, bytes)
	}
}

// TestLargeListing: a directory too large to be held is listed all the same,
// each name once, and of what is held there is never more than allowed.
func TestLargeListing(t *testing.T) {
	const files, limit = 5000, 32 << 10
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		os.Mkdir(lower+"/d", 0o755)
		for i := range files {
			write(t, fmt.Sprintf("%s/d/name%d", lower, i), "")
		}
	})
	w.listing = limit
	d := w.lookup(t, "d")
	for _, n := range []int{7, 1000, files + 10} {
		seen := map[string]bool{}
		cookie, calls := uint64(0), 0
		for eof := false; !eof; calls++ {
			var l []listed
			l, eof = w.some(t, d, cookie, n, n == 7)
			for _, e := range l {
				if seen[e.name] {
					t.Fatalf("%q is listed twice", e.name)
				}
				seen[e.name], cookie = true, e.cookie
			}
			if len(l) == 0 && !eof {
				t.Fatal("a listing of nothing that does not end")
			}
			if _, bytes := w.kept.Size(); bytes > 3*limit {
				t.Fatalf("%d bytes are held", bytes)
			}
			if calls == 100 { // the server is restarted
				w.Close()
				w.FS = newFS(t, Options{})
				w.listing = limit
				w.publish(t)
			}
		}
		if len(seen) != files+2 {
			t.Errorf("listing %d at a time: %d of %d names", n, len(seen), files+2)
		}
		if n > files && calls < 5 {
			t.Errorf("%d calls for what cannot be held at once", calls)
		}
	}
	if n, m := len(w.large), len((*w.table.Load())[w.exp.ID].root.listings); n+m != 0 {
		t.Errorf("%d and %d large listings are still held", n, m)
	}
}

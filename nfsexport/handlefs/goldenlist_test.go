package handlefs

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/golden"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
)

// next is the root of another board over the same layer, served by the same FS.
func (w *world) next(t testing.TB, id nfsexport.ID) *world {
	t.Helper()
	base, err := os.MkdirTemp(w.ov.Lower+"/..", "next")
	if err != nil {
		t.Fatal(err)
	}
	n := &world{FS: w.FS, call: w.call, exp: w.exp, ov: &nfstest.Overlay{Lower: w.ov.Lower, Upper: base + "/upper", Work: base + "/work", Root: base + "/root", More: ",redirect_dir=on"}}
	for _, d := range []string{n.ov.Upper, n.ov.Work, n.ov.Root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.ov.Mount(t)
	t.Cleanup(func() { unix.Unmount(n.ov.Root, unix.MNT_DETACH) })
	n.exp.ID, n.exp.Name, n.exp.Dir = id, id.String(), n.ov.Root
	n.exp.Upper, n.exp.Index, n.exp.Activity = n.ov.Upper, n.ov.Work+"/index", new(nfsexport.Activity)
	n.publish(t)
	return n
}

// remembered is what is remembered of a golden directory for other boards, or nil.
func (w *world) remembered(d []byte) *listing.Listing {
	var k fhandle.Key
	fhandle.Parse(d, &k)
	id := golden.IDOf((*w.table.Load())[w.exp.ID].root.image, &k)
	if is := w.goldens.Find(&id); is != nil {
		return is.List
	}
	return nil
}

// runs gives what is known of the entries of a listing, with its number.
func runs(l *listing.Listing) iter.Seq2[int, *listing.Run] {
	return func(yield func(int, *listing.Run) bool) {
		for n := range (l.Len() + listing.RunLen - 1) / listing.RunLen {
			if r := l.Run(n); r != nil && !yield(n, r) {
				return
			}
		}
	}
}

// lie is the size of all files in what is remembered after lies: whoever is told it was told
// from memory.
const lie = 4711

func lies(l *listing.Listing) {
	for n, was := range runs(l) {
		r := *was
		r.Run = nfs3.MakeRun(was.Len(), 0, 0)
		for i := range was.Len() {
			var ent nfs3.Entry
			was.Entry(i, &ent)
			ent.Attr.Size = lie
			r.Add(&ent)
		}
		l.SetRun(n, &r)
	}
}

// TestGoldenNextBoard: what a board's first listing has found in a golden directory is told to
// the next board of the image, but not of a directory, or a file, that this has changed.
func TestGoldenNextBoard(t *testing.T) {
	now := time.Now()
	writes := func(path string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) { w.putText(t, w.lookup(t, path), "more") }
	}
	does := func(f func(nfstest.Client) error) func(*testing.T, *world) {
		return func(t *testing.T, w *world) { must(t, f(w.client())) }
	}
	nothing := func(*testing.T, *world) {}
	for _, c := range []struct {
		name string
		d    string // the directory, by its name then
		// what the first board does when it has listed it, what is done then, what the next board does
		first, host, next func(*testing.T, *world)
		told              int // files of d that are told from memory
	}{
		{"nothing", "d", nothing, nothing, nothing, 2*listing.RunLen + 1},
		{"another directory", "d", nothing, nothing, writes("f/a"), 2*listing.RunLen + 1},
		{"the first wrote to a file", "d", writes("d/f03"), nothing, nothing, 2*listing.RunLen + 1},
		{"the first removed a file", "d", does(func(c nfstest.Client) error { return c.Unlink("d/f03") }), nothing, nothing, 2*listing.RunLen + 1},
		{"wrote to a file", "d", nothing, nothing, writes("d/f03"), 0},
		{"wrote to a file's other name", "d", nothing, nothing, writes("e/other"), 2 * listing.RunLen},
		{"mode of a file's other name", "d", nothing, nothing, does(func(c nfstest.Client) error { return c.Chmod("e/other", 0o600) }), 2 * listing.RunLen},
		{"made a file", "d", nothing, nothing, does(writeSync("d/new", "new")), 0},
		{"removed a file", "d", nothing, nothing, does(func(c nfstest.Client) error { return c.Unlink("d/f03") }), 0},
		{"made it anew", "d", nothing, nothing, does(func(c nfstest.Client) error { return errors.Join(c.Unlink("d/f03"), writeSync("d/f03", "new")(c)) }), 0},
		{"mode of the directory", "d", nothing, nothing, does(func(c nfstest.Client) error { return c.Chmod("d", 0o700) }), 0},
		{"a directory in it", "d", nothing, nothing, does(func(c nfstest.Client) error { return c.Chmod("d/sub", 0o700) }), 0},
		{"moved", "e/moved", nothing, nothing, does(func(c nfstest.Client) error { return c.Rename("d", "e/moved") }), 0},
		{"on the host in its root", "d", nothing, nothing, func(t *testing.T, w *world) { must(t, os.Chmod(w.ov.Root+"/d/f03", 0o600)) }, 0},
		{"another image", "d", nothing, nothing, func(t *testing.T, w *world) {
			must(t, w.Withdraw(w.exp.ID))
			w.exp.Layers = []string{w.ov.Lower + "/."}
			w.publish(t)
		}, 0},
		{"a minute later", "d", nothing, func(*testing.T, *world) { now = now.Add(goldenAge) }, nothing, 0},
		{"the layer was changed in place", "d", nothing, func(t *testing.T, w *world) { write(t, w.ov.Lower+"/d/more", "more") }, nothing, 0},
		{"the layer was removed and made anew", "d", nothing, func(t *testing.T, w *world) {
			must(t, os.Rename(w.ov.Lower+"/d", w.ov.Lower+"/was"))
			must(t, os.Mkdir(w.ov.Lower+"/d", 0o755))
			write(t, w.ov.Lower+"/d/f00", "other")
		}, nothing, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, t.TempDir(), Options{Now: func() time.Time { return now }}, true, func(lower string) { fillGolden(t, lower) })
			settle()
			d := w.lookup(t, "d")
			all := w.all(t, d, 1000, true)
			c.first(t, w)
			c.host(t, w)
			n := w.next(t, 99)
			n.lookup(t, "d")
			lies(w.remembered(d))
			c.next(t, n)
			settle()
			told := 0
			for _, e := range n.all(t, n.lookup(t, c.d), 7, true) {
				var k fhandle.Key
				var by nfs3.Attr
				if fhandle.Parse(e.handle, &k); k.Export() != n.exp.ID || e.attr.FSID != uint64(n.exp.ID) {
					t.Fatalf("%q was told with a handle of %v, and the fsid %x", e.name, k.Export(), e.attr.FSID)
				}
				if e.attr.Size == lie {
					told++
					e.attr.Size = uint64(len("golden"))
					if e.name == "link" {
						e.attr.Size = 3
					}
				}
				if st := n.GetAttr(&n.call, e.handle, &by); st != nfs3.OK || by != e.attr.Attr {
					t.Errorf("%q was told with %+v, by its handle it has %+v (%v)", e.name, e.attr.Attr, by, st)
				}
			}
			if told != c.told {
				t.Errorf("%d of %d were told from memory, want %d", told, len(all), c.told)
			}
			now = now.Add(attrAge)
			for _, e := range n.all(t, n.lookup(t, c.d), 1000, true) {
				if e.attr.Size == lie {
					t.Errorf("%q: what another board was told is told again", e.name)
				}
			}
		})
	}
}

// nextIsTold: the next board is told what its overlay has, and can use it, with what another was
// told. There "hidden" is in one of three runs.
func (w *world) nextIsTold(t *testing.T, d []byte) {
	t.Helper()
	settle()
	w.all(t, d, 1000, true)
	n := w.next(t, 99)
	for _, e := range n.all(t, n.lookup(t, "d"), 1000, true) {
		var is unix.Stat_t
		var want, by nfs3.Attr
		must(t, unix.Lstat(n.ov.Root+"/d/"+e.name, &is))
		(&op{exp: &export{Export: n.exp}}).attr(&is, &want)
		want.Used = e.attr.Used
		if st := n.GetAttr(&n.call, e.handle, &by); e.attr.Attr != want || st != nfs3.OK || by != want {
			t.Errorf("%q was told with %+v; it has %+v, and by its handle %+v (%v)", e.name, e.attr, want, by, st)
		}
	}
	if n := told(w.remembered(d)); n < 3 {
		t.Errorf("%d entries are remembered for other boards", n)
	}
	must(t, n.Withdraw(n.exp.ID))
	n.ov.Unmount(t)
}

// told counts the entries that other boards are told of.
func told(l *listing.Listing) (n int) {
	for _, r := range runs(l) {
		n += bits.OnesCount32(r.Golden)
	}
	return n
}

// TestGoldenListsAreBounded: the oldest go, whoever lists them at once, and what is told is the same.
func TestGoldenListsAreBounded(t *testing.T) {
	const dirs, files = 8, 3*listing.RunLen + 1
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		for i := range dirs * files {
			os.Mkdir(fmt.Sprintf("%s/d%d", lower, i%dirs), 0o755)
			write(t, fmt.Sprintf("%s/d%d/f%d", lower, i%dirs, i/dirs), "golden")
		}
	})
	settle()
	list := func(w *world, i int) []listed { return w.all(t, w.lookup(t, fmt.Sprintf("d%d", i)), 1000, true) }
	list(w, 0)
	one := w.remembered(w.lookup(t, "d0")).Bytes()
	w.goldens = golden.New(3*one + one/2)
	known := func() (all []int) {
		for i := range dirs {
			if w.remembered(w.lookup(t, fmt.Sprintf("d%d", i))) != nil {
				all = append(all, i)
			}
		}
		return all
	}
	var first [dirs][]listed
	for i := range dirs {
		first[i] = list(w, i)
	}
	if got := known(); !slices.Equal(got, []int{dirs - 3, dirs - 2, dirs - 1}) {
		t.Errorf("after one board these are remembered: %v", got)
	}
	var all sync.WaitGroup
	for i := range 4 {
		n := w.next(t, nfsexport.ID(i+1))
		all.Go(func() {
			for d := range dirs {
				got := list(n, d)
				for k, e := range got {
					was := first[d][k]
					if e.attr.FSID = was.attr.FSID; e.name != was.name || !reflect.DeepEqual(e.attr, was.attr) && e.name[0] == 'f' {
						t.Errorf("board %d was told %q with %+v, the first %q with %+v", i, e.name, e.attr, was.name, was.attr)
					}
				}
			}
		})
	}
	all.Wait()
	if got := known(); len(got) != 3 {
		t.Errorf("after four more at once these are remembered: %v", got)
	}
	w.goldens = golden.New(one / 2)
	list(w.next(t, 99), 0)
	if len(known()) != 0 {
		t.Error("what has no room is remembered")
	}
}

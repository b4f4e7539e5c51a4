package handlefs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
)

const mib = 1 << 20

// reserveWorld is a world on a disk of its own, whose clock stands still.
type reserveWorld struct {
	*world
	clock  atomic.Int64
	events []EventKind
}

// newReserveWorld has a disk of which boards may take so many bytes above the reserve.
// Its big files are golden.
func newReserveWorld(t *testing.T, fs string, size int64, room uint64, big ...int) *reserveWorld {
	t.Helper()
	im := newImage(t, fs, t.TempDir(), size)
	var mu sync.Mutex
	w := new(reserveWorld)
	w.clock.Store(time.Now().UnixNano())
	w.world = newWorld(t, im.dir, Options{Observe: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		w.events = append(w.events, e.Kind)
	}, Now: func() time.Time { return time.Unix(0, w.clock.Load()) }}, true, func(lower string) {
		write(t, lower+"/golden", "golden")
		for i, n := range big {
			write(t, fmt.Sprintf("%s/big%d", lower, i), strings.Repeat("rubus!!!", n*mib/8))
		}
	})
	t.Cleanup(func() { w.Close() }) // before what it lies on is unmounted
	run(t, "sync", "-f", im.dir)
	w.opts.Reserve = w.free(t) - room
	w.publishAnew(t)
	return w
}

// publishAnew publishes the export after what its disk keeps was changed.
func (w *reserveWorld) publishAnew(t *testing.T) {
	t.Helper()
	w.Withdraw(w.exp.ID)
	w.disks = disks{}
	w.publish(t)
}

// free is the space of the disk below when all is written that waits for it, and xfs keeps
// nothing ready: that it gives to others before it tells them that there is none.
func (w *reserveWorld) free(t *testing.T) uint64 {
	t.Helper()
	run(t, "sync", "-f", w.ov.Upper)
	free, err := (*w.table.Load())[w.exp.ID].root.Free(true)
	must(t, err)
	return uint64(free.Bytes)
}

// fill writes to f until that is refused, and a second later again, when what it wrote is on
// the disk: until then xfs keeps more for it.
func (w *reserveWorld) fill(t *testing.T, c *nfs3.Call, f []byte) (end uint64, st nfs3.Status) {
	for _, n := range []int{mib, 4096} {
		for refused := 0; refused < 2; {
			if st = w.putAs(c, f, end, n); st == nfs3.OK {
				end, refused = end+uint64(n), 0
				continue
			}
			refused++
			w.free(t)
			w.clock.Add(int64(time.Second))
		}
	}
	return end, st
}

// TestReserve: at the reserve, whatever the clock says, boards cannot grow, and can always
// remove.
func TestReserve(t *testing.T) {
	for fs, size := range map[string]int64{"ext4": 96, "xfs": 320, "btrfs": 320} {
		t.Run(fs, func(t *testing.T) {
			const room = 24 * mib
			w := newReserveWorld(t, fs, size, room, 2)
			f := w.create(t, &w.call, "f", 0o644)
			g := w.create(t, &w.call, "g", 0o644)
			if st := w.put(g, 0, mib); st != nfs3.OK {
				t.Fatal(st)
			}
			end, st := w.fill(t, &w.call, f)
			if st != nfs3.ErrNoSpc || end < room/2 {
				t.Fatalf("%d KiB went in, then %s", end>>10, st)
			}
			if free := w.free(t); free+mib/2 < w.opts.Reserve {
				t.Errorf("%d KiB are missing from the reserve", (w.opts.Reserve-free)>>10)
			}
			var made nfs3.New
			var wcc, wcc2 nfs3.Wcc
			golden, big := w.lookup(t, "golden"), w.lookup(t, "big0")
			for what, got := range map[string]nfs3.Status{
				"create":           w.Create(&w.call, w.root, "x", nfs3.Guarded, &nfs3.SetAttr{}, 0, &made),
				"mkdir":            w.Mkdir(&w.call, w.root, "x", &nfs3.SetAttr{}, &made),
				"symlink":          w.Symlink(&w.call, w.root, "x", "y", &nfs3.SetAttr{}, &made),
				"fifo":             w.Mknod(&w.call, w.root, "x", nfs3.TypeFifo, 0, 0, &nfs3.SetAttr{}, &made),
				"link":             w.Link(&w.call, g, w.root, "x", &made.Attr, &wcc),
				"write to golden":  w.put(golden, 0, 1),
				"hole":             w.cut(g, 100*mib),
				"write at the end": w.put(g, mib, 4096),
			} {
				if got != nfs3.ErrNoSpc {
					t.Errorf("%s: %s", what, got)
				}
			}
			if fs == "ext4" { // the others share what is copied up
				for what, got := range map[string]nfs3.Status{
					"chmod of golden":  w.SetAttr(&w.call, big, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &wcc),
					"cut golden a bit": w.cut(big, 5),
					"rename golden":    w.Rename(&w.call, w.root, "big0", w.root, "x", &wcc, &wcc2),
				} {
					if got != nfs3.ErrNoSpc {
						t.Errorf("%s: %s", what, got)
					}
				}
			}
			var s nfs3.FSStat
			if st := w.FSStat(&w.call, w.root, &s, &made.Attr); st != nfs3.OK || s.Abytes > mib/2 {
				t.Errorf("FSSTAT: %s, %d bytes are free", st, s.Abytes)
			}
			for what, got := range map[string]nfs3.Status{
				"write in place":     w.put(g, 0, mib),
				"chmod":              w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &wcc),
				"rename":             w.Rename(&w.call, w.root, "g", w.root, "h", &wcc, &wcc2),
				"cut all of golden":  w.cut(big, 0),
				"remove golden":      w.Remove(&w.call, w.root, "golden", &wcc),
				"create over a file": w.Create(&w.call, w.root, "h", nfs3.Unchecked, &nfs3.SetAttr{SetSize: true}, 0, &made),
			} {
				if got != nfs3.OK {
					t.Errorf("%s: %s", what, got)
				}
			}
			if fmt.Sprint(w.events) != fmt.Sprint([]EventKind{SpaceLow}) {
				t.Errorf("told is %v", w.events)
			}
			if st := w.Remove(&w.call, w.root, "f", &wcc); st != nfs3.OK {
				t.Fatalf("remove: %s", st)
			}
			w.free(t) // the kernel gives it back later than this
			if st := w.Create(&w.call, w.root, "x", nfs3.Guarded, &nfs3.SetAttr{}, 0, &made); st != nfs3.OK {
				t.Errorf("create when there is room again: %s", st)
			}
			if fmt.Sprint(w.events) != fmt.Sprint([]EventKind{SpaceLow, SpaceBack}) {
				t.Errorf("told is %v", w.events)
			}
		})
	}
}

// TestReserveOfADisk: boards that write at the same time take no more than one does.
func TestReserveOfADisk(t *testing.T) {
	const room, boards = 24 * mib, 4
	w := newReserveWorld(t, "ext4", 96, room)
	defer w.Close() // before what it lies on is unmounted
	var wg sync.WaitGroup
	for i := range boards {
		x := w.exp
		o := *w.world
		if i > 0 {
			base := filepath.Join(filepath.Dir(w.ov.Upper), fmt.Sprint("board", i))
			must(t, os.Mkdir(base, 0o755))
			o.ov = nfstest.NewOverlay(t, base, nil)
			x.ID, x.Name, x.Path = nfsexport.ID(i), fmt.Sprint(i), fmt.Sprint("/", i)
			x.Dir, x.Upper, x.Index, x.Layers = o.ov.Root, o.ov.Upper, o.ov.Work+"/index", []string{o.ov.Lower}
			x.Activity = new(nfsexport.Activity)
			o.exp = x
			o.publish(t)
		}
		wg.Go(func() {
			call := nfs3.Call{Peer: board}
			var made nfs3.New
			if st := o.Create(&call, o.root, "f", nfs3.Guarded, &nfs3.SetAttr{}, 0, &made); st != nfs3.OK {
				t.Errorf("board %d: create: %s", i, st)
				return
			}
			if _, st := w.fill(t, &call, made.Handle); st != nfs3.ErrNoSpc {
				t.Errorf("board %d: %s", i, st)
			}
		})
	}
	wg.Wait()
	free := w.free(t)
	if free+mib/2 < w.opts.Reserve {
		t.Errorf("%d KiB are missing from the reserve", (w.opts.Reserve-free)>>10)
	}
	if free > w.opts.Reserve+room/2 {
		t.Errorf("%d MiB are left above the reserve", (free-w.opts.Reserve)>>20)
	}
	if fmt.Sprint(w.events) != fmt.Sprint([]EventKind{SpaceLow}) {
		t.Errorf("told is %v", w.events)
	}
}

// TestReserveOfCopies: a golden file is copied up when there is room for all of it, by
// whatever call, and else nothing of it is.
func TestReserveOfCopies(t *testing.T) {
	var wcc, wcc2 nfs3.Wcc
	var a nfs3.PostAttr
	for what, call := range map[string]func(w *reserveWorld, name string) nfs3.Status{
		"write": func(w *reserveWorld, name string) nfs3.Status { return w.put(w.lookup(t, name), 0, 1) },
		"chmod": func(w *reserveWorld, name string) nfs3.Status {
			return w.SetAttr(&w.call, w.lookup(t, name), &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &wcc)
		},
		"cut": func(w *reserveWorld, name string) nfs3.Status { return w.cut(w.lookup(t, name), 5) },
		"link": func(w *reserveWorld, name string) nfs3.Status {
			return w.Link(&w.call, w.lookup(t, name), w.root, "x", &a, &wcc)
		},
		"rename": func(w *reserveWorld, name string) nfs3.Status {
			return w.Rename(&w.call, w.root, name, w.root, "y", &wcc, &wcc2)
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newReserveWorld(t, "ext4", 96, 12*mib, 16, 4)
			before := w.free(t)
			if st := call(w, "big0"); st != nfs3.ErrNoSpc {
				t.Errorf("of 16 MiB: %s", st)
			}
			if free := w.free(t); free < before {
				t.Errorf("what was refused takes %d bytes", before-free)
			}
			if fmt.Sprint(w.events) != fmt.Sprint([]EventKind{SpaceShort}) {
				t.Errorf("told is %v", w.events)
			}
			if st := call(w, "big1"); st != nfs3.OK {
				t.Errorf("of 4 MiB: %s", st)
			}
		})
	}
}

// TestReserveOfShared: where files share blocks a copy takes none, and writing over what
// is shared does.
func TestReserveOfShared(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			const room = 24 * mib
			w := newReserveWorld(t, fs, 400, room, 48)
			big, wcc := w.lookup(t, "big0"), nfs3.Wcc{}
			if st := w.SetAttr(&w.call, big, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &wcc); st != nfs3.OK {
				t.Fatalf("chmod: %s", st)
			}
			if free := w.free(t); free+mib < w.opts.Reserve+room {
				t.Fatalf("the copy took %d bytes", w.opts.Reserve+room-free)
			}
			end, st := w.fill(t, &w.call, big)
			if st != nfs3.ErrNoSpc || end < room/2 {
				t.Errorf("%d KiB were written over, then %s", end>>10, st)
			}
			if free := w.free(t); free+mib < w.opts.Reserve {
				t.Errorf("%d KiB are missing from the reserve", (w.opts.Reserve-free)>>10)
			}
			if st := w.put(big, 0, mib); st != nfs3.OK {
				t.Errorf("what was written over once, once more: %s", st)
			}
		})
	}
}

package handlefs

import (
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// begun is a call on f that has begun.
func (w *world) begun(t *testing.T, f []byte) *op {
	t.Helper()
	o, st := w.beginChange(&w.call, f)
	if st != nfs3.OK {
		t.Fatal(st)
	}
	return o
}

func (o *op) put(t *testing.T, off uint64, n int) {
	t.Helper()
	p := nfs3.Piece{Off: off, Data: make([]byte, n)}
	if st := o.writePiece(&p); st != nfs3.OK {
		t.Fatal(st)
	}
}

// opened is a call on f that has opened it, and is not in the cache with it yet.
func (w *world) opened(t *testing.T, f []byte) (o *op, fd int) {
	t.Helper()
	o = w.ops.Get().(*op)
	o.c, o.time, o.exp = &w.call, w.opts.Now(), (*w.table.Load())[w.exp.ID]
	o.exp.root.calls.Enter()
	fhandle.Parse(f, &o.k)
	w.uncache(&o.k)
	o.toOpen()
	o.h.Set(&o.k)
	fd, e := o.h.Open(o.exp.root.fd, unix.O_PATH)
	if e == 0 {
		e = rawfs.Stat(fd, &o.st)
	}
	if e != 0 {
		t.Fatal(e)
	}
	return o, fd
}

// Calls on one file cross each other, and the file's names come and go meanwhile: what
// each has made is counted once.
func TestQuotaOfCallsThatCross(t *testing.T) {
	const kib = 1 << 10
	for name, cross := range map[string]func(t *testing.T, w *world, f []byte){
		// A call has seen the file, and is in the way of nobody who has it open, when
		// another writes to it and is done.
		"opened before a write": func(t *testing.T, w *world, f []byte) {
			o, fd := w.opened(t, f)
			if st := w.put(f, 0, 72*kib); st != nfs3.OK {
				t.Fatal(st)
			}
			w.uncache(&o.k)
			o.obj, _ = o.adopt(fd, &o.st, false)
			o.put(t, 1024*kib, 4*kib)
			o.end()
		},
		// The same, and the file is removed before the call is in.
		"opened before a removal": func(t *testing.T, w *world, f []byte) {
			o, fd := w.opened(t, f)
			var wcc nfs3.Wcc
			if st := w.Remove(&w.call, w.root, "f", &wcc); st != nfs3.OK {
				t.Fatal(st)
			}
			o.obj, _ = o.adopt(fd, &o.st, false)
			o.put(t, 1024*kib, 72*kib)
			o.end()
		},
		// Two calls, each on an object of its own, as the file loses names between them,
		// and a third that comes when the first is done.
		"three objects": func(t *testing.T, w *world, f []byte) {
			var k fhandle.Key
			fhandle.Parse(f, &k)
			next := func() *op {
				o := w.begun(t, f)
				w.cache.lost(&k, o.exp.root)
				return o
			}
			first, second := next(), next()
			first.put(t, 0, 4*kib)
			first.end()
			third := next()
			third.put(t, 1024*kib, 4*kib)
			second.put(t, 512*kib, 72*kib)
			third.put(t, 2048*kib, 4*kib)
			second.end()
			third.end()
		},
		// Of two names in two directories each is removed while the other is there.
		"both names removed": func(t *testing.T, w *world, f []byte) {
			var a nfs3.PostAttr
			var wcc nfs3.Wcc
			if st := w.Link(&w.call, f, w.lookup(t, "d"), "g", &a, &wcc); st != nfs3.OK {
				t.Fatal(st)
			}
			w.removeF(t, func() {
				if st := w.Remove(&w.call, w.lookup(t, "d"), "g", &wcc); st != nfs3.OK {
					t.Error(st)
				}
			})
		},
		"another name while one is removed": func(t *testing.T, w *world, f []byte) {
			w.removeF(t, func() {
				var a nfs3.PostAttr
				var wcc nfs3.Wcc
				if st := w.Link(&w.call, f, w.lookup(t, "d"), "g", &a, &wcc); st != nfs3.OK {
					t.Error(st)
				}
			})
			if st := w.put(f, 0, 40*kib); st != nfs3.OK {
				t.Error(st)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, q := newQuotaWorld(t, t.TempDir(), nfsexport.Space{Bytes: 8 << 20}, nil)
			var made nfs3.New
			if st := w.Mkdir(&w.call, w.root, "d", &nfs3.SetAttr{SetMode: true, Mode: 0o755}, &made); st != nfs3.OK {
				t.Fatal(st)
			}
			f := w.create(t, &w.call, "f", 0o644)
			if st := w.put(f, 0, 8*kib); st != nfs3.OK {
				t.Fatal(st)
			}
			cross(t, w, f)
			if there := w.onDisk(t); q.Used() != there {
				t.Errorf("counted %+v, and %+v is there", q.Used(), there)
			}
		})
	}
}

// removeF removes the name f as unlinkName does; meanwhile is after the file was looked
// at.
func (w *world) removeF(t *testing.T, meanwhile func()) {
	t.Helper()
	o := w.begun(t, w.root)
	defer o.end()
	o.name.Set("f")
	old := o.entry(o.obj, &o.name)
	defer old.release()
	k := old.obj.key
	meanwhile()
	if err := unix.Unlinkat(o.obj.fd, "f", 0); err != nil {
		t.Fatal(err)
	}
	old.removed()
	w.cache.lost(&k, o.exp.root)
}

// A file that grows by nothing but holes takes a block each time on btrfs, and is held
// to its quota with that.
func TestQuotaOfHoles(t *testing.T) {
	const limit = 256 << 10
	w, q := newQuotaWorld(t, newImage(t, "btrfs", t.TempDir(), 128).dir, nfsexport.Space{Bytes: limit}, nil)
	defer w.Close() // before what it lies on is unmounted
	for name, grow := range map[string]func(f []byte, size uint64) nfs3.Status{
		"setattr": w.cut,
		"write": func(f []byte, size uint64) nfs3.Status {
			if st := w.cut(f, size-3000); st != nfs3.OK { // a hole to write behind
				return st
			}
			return w.put(f, size+8192, 1)
		},
	} {
		f := w.create(t, &w.call, name, 0o644)
		st, n := nfs3.OK, uint64(1)
		for ; st == nfs3.OK && n < 200; n++ {
			st = grow(f, n<<15|5000)
		}
		if there := w.onDisk(t); st != nfs3.ErrDQuot || there.Bytes > limit || there != q.Used() {
			t.Errorf("%s: after %d: %s, %+v is there and %+v counted, of %d", name, n, st, there, q.Used(), limit)
		}
		if st := w.cut(f, 0); st != nfs3.OK {
			t.Error(st)
		}
	}
}

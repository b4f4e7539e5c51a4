package handlefs

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/golden"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// cpu adds the processor time of each round, user's and kernel's: what counts
// on a server, and what a busy machine does not change much.
func cpu(b *testing.B) func() {
	b.ReportAllocs()
	before := cpuTime()
	return func() { b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op") }
}

func cpuTime() int64 {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func benchWorld(b *testing.B, async bool) *world {
	return newWorld(b, b.TempDir(), Options{}, async, func(lower string) {
		os.MkdirAll(lower+"/usr/lib", 0o755)
		os.WriteFile(lower+"/usr/lib/golden", make([]byte, 1<<20), 0o644)
	})
}

func benchRead(b *testing.B, size int, call func(w *world) *nfs3.Call) {
	w := benchWorld(b, true)
	f, c := w.lookup(b, "usr/lib/golden"), call(w)
	buf := make([]byte, size)
	var a nfs3.PostAttr
	b.SetBytes(int64(size))
	defer cpu(b)()
	for b.Loop() {
		if n, _, st := w.Read(c, f, 0, buf, &a); n != size || st != nfs3.OK {
			b.Fatalf("%d bytes, status %d", n, st)
		}
	}
}

func asRoot(w *world) *nfs3.Call { return &w.call }
func asUser(w *world) *nfs3.Call { return w.as(1000, 1000, 4, 24, 27, 100) }

func BenchmarkRead4k(b *testing.B)     { benchRead(b, 4<<10, asRoot) }
func BenchmarkRead4kUser(b *testing.B) { benchRead(b, 4<<10, asUser) }
func BenchmarkRead128k(b *testing.B)   { benchRead(b, 128<<10, asRoot) }

func BenchmarkGetAttr(b *testing.B) {
	w := benchWorld(b, true)
	f := w.lookup(b, "usr/lib/golden")
	var a nfs3.Attr
	defer cpu(b)()
	for b.Loop() {
		w.GetAttr(&w.call, f, &a)
	}
}

// BenchmarkGetAttrMiss opens the object by handle every time.
func BenchmarkGetAttrMiss(b *testing.B) {
	w := benchWorld(b, true)
	f := w.lookup(b, "usr/lib/golden")
	var k fhandle.Key
	fhandle.Parse(f, &k)
	var a nfs3.Attr
	defer cpu(b)()
	for b.Loop() {
		w.uncache(&k)
		w.GetAttr(&w.call, f, &a)
	}
}

func benchLookup(b *testing.B, miss bool) {
	w := benchWorld(b, true)
	d := w.lookup(b, "usr/lib")
	var k fhandle.Key
	fhandle.Parse(w.lookup(b, "usr/lib/golden"), &k)
	h := make([]byte, 0, nfs3.MaxHandle)
	var a, da nfs3.PostAttr
	defer cpu(b)()
	for b.Loop() {
		if miss {
			w.uncache(&k)
		}
		h = h[:0]
		w.Lookup(&w.call, d, "golden", &h, &a, &da)
	}
}

func BenchmarkLookup(b *testing.B)     { benchLookup(b, false) }
func BenchmarkLookupMiss(b *testing.B) { benchLookup(b, true) }

func BenchmarkAccess(b *testing.B) {
	for name, c := range map[string]func(*world) *nfs3.Call{"root": asRoot, "user": asUser} {
		b.Run(name, func(b *testing.B) {
			w := benchWorld(b, true)
			d, call := w.lookup(b, "usr/lib"), c(w)
			var a nfs3.PostAttr
			defer cpu(b)()
			for b.Loop() {
				w.Access(call, d, 0x3f, &a)
			}
		})
	}
}

func BenchmarkWrite4k(b *testing.B) {
	for name, how := range map[string]nfs3.Stable{"unstable": nfs3.Unstable, "filesync": nfs3.FileSync} {
		b.Run(name, func(b *testing.B) {
			w := benchWorld(b, true)
			f := w.create(b, &w.call, "f", 0o644)
			data := make([]byte, 4096)
			var wcc nfs3.Wcc
			defer cpu(b)()
			for b.Loop() {
				w.Write(&w.call, f, 0, data, how, &wcc)
			}
		})
	}
}

// BenchmarkWriteWithin is BenchmarkWrite4k and more, at the end of a file and within it: with
// a quota, with a reserve of the disk and without.
func BenchmarkWriteWithin(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 10} {
		for name, c := range map[string]struct {
			quota   int64
			reserve uint64
		}{"quota": {quota: 1 << 40}, "reserve": {reserve: 1}, "none": {}} {
			b.Run(fmt.Sprintf("%dk/%s", size>>10, name), func(b *testing.B) {
				w := newWorld(b, b.TempDir(), Options{Reserve: c.reserve}, true, nil)
				if c.quota > 0 {
					w.exp.Quota = new(nfsexport.Quota)
					w.exp.Quota.Limit(nfsexport.Space{Bytes: c.quota})
					w.publish(b)
				}
				f := w.create(b, &w.call, "f", 0o644)
				data := make([]byte, size)
				var wcc nfs3.Wcc
				var off uint64
				defer cpu(b)()
				for b.Loop() {
					if off%(64<<20) == 0 {
						w.cut(f, 0)
					}
					w.Write(&w.call, f, off%(64<<20), data, nfs3.Unstable, &wcc)
					off += uint64(size)
				}
			})
		}
	}
}

// BenchmarkCreateRemove is two calls.
func BenchmarkCreateRemove(b *testing.B) {
	for name, async := range map[string]bool{"sync": false, "async": true} {
		for who, c := range map[string]func(*world) *nfs3.Call{"root": asRoot, "user": asUser} {
			b.Run(name+"/"+who, func(b *testing.B) {
				w := benchWorld(b, async)
				w.client().Chmod(".", 0o777)
				call := c(w)
				s := nfs3.SetAttr{SetMode: true, Mode: 0o644}
				defer cpu(b)()
				for b.Loop() {
					var n nfs3.New
					w.Create(call, w.root, "f", nfs3.Guarded, &s, 0, &n)
					w.Remove(call, w.root, "f", &n.Dir)
				}
			})
		}
	}
}

// BenchmarkReadDir lists 1,000 entries.
func BenchmarkReadDir(b *testing.B) {
	w := benchWorld(b, true)
	for i := range 1000 {
		w.create(b, &w.call, fmt.Sprintf("f%d", i), 0o644)
	}
	for name, plus := range map[string]bool{"names": false, "plus": true} {
		b.Run(name, func(b *testing.B) {
			defer cpu(b)()
			for b.Loop() {
				w.all(b, w.root, 1<<30, plus)
			}
		})
	}
}

// BenchmarkListing is READDIRPLUS of a directory of 1,000 golden files by the program
// that makes replies, page by page as Linux asks for them, after the first time.
func BenchmarkListing(b *testing.B) {
	const files = 1000
	w := newWorld(b, b.TempDir(), Options{}, true, func(lower string) {
		os.Mkdir(lower+"/d", 0o755)
		for i := range files {
			write(b, fmt.Sprintf("%s/d/entry-%04d", lower, i), "")
		}
	})
	d := w.lookup(b, "d")
	var pages []sunrpc.Call
	for cookie := uint64(0); ; {
		l, eof := w.some(b, d, cookie, 170, true)
		var args xdr.Writer
		args.Opaque(d)
		args.Uint64(cookie)
		args.Uint64(0)
		args.Uint32(8 << 10)
		args.Uint32(32 << 10)
		pages = append(pages, sunrpc.Call{Peer: board, Procedure: nfs3.ProcReadDirPlus, Flavor: sunrpc.AuthSys, Args: xdr.NewReader(args.Buf)})
		if eof {
			break
		}
		cookie = l[len(l)-1].cookie
	}
	settle()
	p := nfs3.NewProgram(w)
	var out xdr.Writer
	list := func() {
		for i := range pages {
			c := pages[i]
			out.Truncate(0)
			p.Serve(b.Context(), &c, &out)
		}
	}
	list()
	defer cpu(b)()
	for b.Loop() {
		list()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/entry")
}

// BenchmarkFirstListing is READDIRPLUS of golden directories of which the kernel knows no
// names yet, but their layer's: without knowing the layer, with it, and after another board's.
func BenchmarkFirstListing(b *testing.B) {
	const dirs, files = 50, 100
	for _, how := range []string{"overlay", "layer", "next board"} {
		b.Run(how, func(b *testing.B) {
			w := newWorld(b, b.TempDir(), Options{}, true, func(lower string) {
				for i := range dirs * files {
					os.Mkdir(fmt.Sprintf("%s/d%d", lower, i%dirs), 0o755)
					write(b, fmt.Sprintf("%s/d%d/entry-%d", lower, i%dirs, i), "")
				}
			})
			settle()
			if how == "overlay" {
				w.exp.Layers = nil
			}
			list := func() (took int64) {
				w.Withdraw(w.exp.ID)
				w.ov.Unmount(b)
				w.ov.Mount(b)
				w.publish(b)
				for i := range dirs {
					d := w.lookup(b, fmt.Sprintf("d%d", i))
					begin := cpuTime()
					var verf uint64
					var a nfs3.PostAttr
					w.ReadDir(&w.call, d, 0, &verf, true, nfs3.EntryFunc(func(*nfs3.Entry) bool { return true }), &a)
					took += cpuTime() - begin
				}
				return took
			}
			var took int64
			for b.Loop() {
				w.goldens = golden.New(golden.Most)
				if how == "next board" {
					list()
				}
				took += list()
			}
			b.ReportMetric(float64(took)/float64(b.N)/dirs/files, "cpu-ns/entry")
		})
	}
}

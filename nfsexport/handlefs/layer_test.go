package handlefs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// layerWorld has golden files, old enough to be read from their layer.
func layerWorld(t *testing.T, base string, o Options, files ...string) *world {
	t.Helper()
	w := newWorld(t, base, o, true, func(lower string) {
		for _, name := range files {
			write(t, filepath.Join(lower, name), goldenText)
		}
		must(t, os.Link(filepath.Join(lower, files[0]), filepath.Join(lower, "link")))
	})
	settle()
	return w
}

var goldenText = strings.Repeat("golden! ", 1000)

// read gives what a file has, and its attributes as the same answer says them.
func (w *world) read(t testing.TB, fh []byte) (string, nfs3.Attr) {
	t.Helper()
	var a nfs3.PostAttr
	buf := make([]byte, 2*len(goldenText))
	n, eof, st := w.Read(&w.call, fh, 0, buf, &a)
	if st != nfs3.OK || !eof || !a.OK {
		t.Fatalf("READ: %d bytes, eof %v, status %v", n, eof, st)
	}
	return string(buf[:n]), a.Attr
}

// inLayer says whether a file is read from its layer now, not only if so: what the
// descriptor is of, too.
func (w *world) inLayer(t *testing.T, fh []byte) bool {
	t.Helper()
	obj := w.object(t, fh)
	var fd, ov unix.Stat_t
	if e := rawfs.Stat(int(obj.ro.Load()), &fd); e != 0 {
		t.Fatalf("looking at what is read: %v", e)
	}
	must(t, unix.Stat(w.ov.Root, &ov))
	if is := fd.Dev != ov.Dev; is != obj.inLayer.Load() {
		t.Fatalf("the layer's descriptor: %v, known as that: %v", is, !is)
	}
	return obj.inLayer.Load()
}

// TestLayer: a golden file is read from its layer until it is copied up, whoever does
// that, and never after.
func TestLayer(t *testing.T) {
	const mark = "changed "
	changed := mark + goldenText[len(mark):]
	over := func(t *testing.T, path string) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(mark)
		must(t, err)
		must(t, f.Close())
	}
	ways := []struct {
		name   string
		change func(t *testing.T, w *world, fh []byte)
		want   string
		stays  bool // in the layer
		seen   bool // by who makes no call: when attributes have aged
	}{
		{"nothing", func(*testing.T, *world, []byte) {}, goldenText, true, false},
		{"another file", func(t *testing.T, w *world, _ []byte) { w.put(w.create(t, &w.call, "own", 0o644), 0, 10) }, goldenText, true, false},
		{"WRITE", func(t *testing.T, w *world, fh []byte) {
			var c nfs3.Wcc
			if _, _, st := w.Write(&w.call, fh, 0, []byte(mark), nfs3.FileSync, &c); st != nfs3.OK {
				t.Fatal(st)
			}
		}, changed, false, false},
		{"WRITE by another object", func(t *testing.T, w *world, fh []byte) {
			var k fhandle.Key
			fhandle.Parse(fh, &k)
			held := w.cache.get(&k, (*w.table.Load())[w.exp.ID].root)
			w.cache.drop(&k)
			defer w.cache.release(held)
			var c nfs3.Wcc
			if _, _, st := w.Write(&w.call, fh, 0, []byte(mark), nfs3.Unstable, &c); st != nfs3.OK {
				t.Fatal(st)
			}
			if held == w.object(t, fh) {
				t.Fatal("it is the same object")
			}
			w.uncache(&k) // what is opened now looks for itself
		}, changed, false, false},
		{"WRITE by another name", func(t *testing.T, w *world, _ []byte) {
			var c nfs3.Wcc
			if _, _, st := w.Write(&w.call, w.lookup(t, "link"), 0, []byte(mark), nfs3.Unstable, &c); st != nfs3.OK {
				t.Fatal(st)
			}
		}, changed, false, false},
		{"cut off", func(t *testing.T, w *world, fh []byte) {
			if st := w.cut(fh, 4); st != nfs3.OK {
				t.Fatal(st)
			}
		}, "gold", false, false},
		{"mode", func(t *testing.T, w *world, fh []byte) {
			var c nfs3.Wcc
			if st := w.SetAttr(&w.call, fh, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &c); st != nfs3.OK {
				t.Fatal(st)
			}
		}, goldenText, false, false},
		{"host", func(t *testing.T, w *world, _ []byte) { over(t, w.ov.Root+"/f") }, changed, false, true},
		{"host, times set back", func(t *testing.T, w *world, fh []byte) {
			_, a := w.read(t, fh)
			over(t, w.ov.Root+"/f")
			must(t, os.Chtimes(w.ov.Root+"/f", time.Time{}, time.Unix(int64(a.Mtime.Sec), int64(a.Mtime.Nsec))))
		}, changed, false, true},
		{"host, cut off", func(t *testing.T, w *world, _ []byte) { must(t, os.Truncate(w.ov.Root+"/f", 4)) }, "gold", false, true},
		{"host, in a hold", func(t *testing.T, w *world, _ []byte) {
			release, err := w.Hold(t.Context(), w.exp.ID)
			must(t, err)
			over(t, w.ov.Root+"/f")
			release()
		}, changed, false, false},
	}
	for _, fsType := range []string{"ext4", "xfs", "tmpfs"} {
		t.Run(fsType, func(t *testing.T) {
			base := diskOf(t, fsType)
			for i, way := range ways {
				t.Run(way.name, func(t *testing.T) {
					now := time.Now()
					w := layerWorld(t, filepath.Join(base, fmt.Sprint(i)), Options{Now: func() time.Time { return now }}, "f")
					fh := w.lookup(t, "f")
					was := accessed(t, w.ov.Lower+"/f")
					got, a := w.read(t, fh)
					if got != goldenText || !w.inLayer(t, fh) {
						t.Fatal("not read from the layer")
					}
					files := w.OpenFiles()
					way.change(t, w, fh)
					if way.seen {
						if got, b := w.read(t, fh); a.Ctime == b.Ctime && got != goldenText || a.Ctime != b.Ctime && got != way.want {
							t.Errorf("the attributes are of another time than the data")
						}
						now = now.Add(attrAge)
					}
					for range 2 {
						if got, _ := w.read(t, fh); got != way.want {
							t.Errorf("it has %.20q..., %d bytes, want %.20q...", got, len(got), way.want)
						}
					}
					if obj := w.object(t, fh); obj.ro.Load() >= 0 && w.inLayer(t, fh) != way.stays {
						t.Errorf("read from its layer: %v", !way.stays)
					}
					if way.seen && w.OpenFiles() != files {
						t.Errorf("%d files are open, were %d", w.OpenFiles(), files)
					}
					if is := accessed(t, w.ov.Lower+"/f"); is != was {
						t.Error("the layer's file has another time of access")
					}
					must(t, w.Withdraw(w.exp.ID))
					w.ov.Unmount(t)
				})
			}
			if fsType != "tmpfs" {
				must(t, unix.Unmount(base, 0)) // nothing in it is open
			}
		})
	}
}

func accessed(t *testing.T, path string) unix.Timespec {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Atim
}

// TestLayerOfNewUpper: an upper that is taken away, or put in the place of another,
// changes what a handle reads.
func TestLayerOfNewUpper(t *testing.T) {
	w := layerWorld(t, t.TempDir(), Options{AttrAge: time.Hour}, "f")
	fh := w.lookup(t, "f")
	is := func(when, want string, golden bool) {
		t.Helper()
		got, _ := w.read(t, fh)
		if got != want {
			t.Errorf("%s: it has %.20q..., want %.20q...", when, got, want)
		}
		if obj := w.object(t, fh); golden != obj.inLayer.Load() {
			t.Errorf("%s: read from its layer: %v", when, !golden)
		}
	}
	// exchange has another upper mounted, as a reset, a restore and a boot do.
	exchange := func(upper, work string) {
		t.Helper()
		must(t, w.Withdraw(w.exp.ID))
		w.ov.Unmount(t)
		for _, d := range []string{upper, work} {
			must(t, os.MkdirAll(d, 0o755))
		}
		w.ov.Upper, w.ov.Work = upper, work
		w.exp.Upper, w.exp.Index = upper, work+"/index"
		w.ov.Mount(t)
		w.publish(t)
	}
	upper, work := w.ov.Upper, w.ov.Work
	is("golden", goldenText, true)
	if st := w.cut(fh, 4); st != nfs3.OK {
		t.Fatal(st)
	}
	is("cut off", "gold", false)
	exchange(upper+"2", work+"2")
	is("reset", goldenText, true)
	exchange(upper, work)
	is("restored", "gold", false)
	exchange(upper+"2", work+"2")
	is("reset again", goldenText, true)
}

// TestLayerRace: who asks after a first WRITE was answered gets what it wrote, whoever
// reads meanwhile; data sent from its pages counts.
func TestLayerRace(t *testing.T) {
	var files []string
	for i := range 40 {
		files = append(files, fmt.Sprint("f", i))
	}
	w := layerWorld(t, t.TempDir(), Options{}, files...)
	for _, name := range files {
		fh := w.lookup(t, name)
		var written atomic.Bool
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				call := nfs3.Call{Peer: board}
				buf := make([]byte, len(goldenText))
				for i, after := 0, false; !after && i < 1e6; i++ {
					after = written.Load()
					var a nfs3.PostAttr
					n, _, st := w.Read(&call, fh, 0, buf, &a)
					if st != nfs3.OK || n != len(buf) {
						t.Errorf("READ: %d bytes, %v", n, st)
					}
					if after && !bytes.HasPrefix(buf, []byte("changed ")) {
						t.Error("what was written before is not there")
					}
				}
			})
		}
		var c nfs3.Wcc
		if _, _, st := w.Write(&w.call, fh, 0, []byte("changed "), nfs3.Unstable, &c); st != nfs3.OK {
			t.Error(st)
		}
		written.Store(true)
		all.Wait()
	}
}

// TestLayerElsewhere: of layers that lie on another file system than the upper nothing is
// opened by their handles, which would be those of other files here.
func TestLayerElsewhere(t *testing.T) {
	base := t.TempDir()
	w := newWorld(t, base, Options{}, true, func(lower string) {
		must(t, unix.Mount("tmpfs", lower, "tmpfs", 0, ""))
		t.Cleanup(func() { unix.Unmount(lower, unix.MNT_DETACH) })
		write(t, lower+"/f", goldenText)
	})
	must(t, w.Withdraw(w.exp.ID))
	w.ov.Unmount(t)
	w.ov.More = ",xino=on"
	w.ov.Mount(t)
	w.publish(t)
	settle()
	fh := w.lookup(t, "f")
	if got, _ := w.read(t, fh); got != goldenText || w.inLayer(t, fh) {
		t.Errorf("%d bytes, from its layer: %v", len(got), w.inLayer(t, fh))
	}
}

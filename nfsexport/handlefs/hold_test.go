package handlefs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// TestHold: while changes are held nothing changes, reading goes on, and whoever
// wants to change something is told to come again.
func TestHold(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, false, func(lower string) {
		if err := os.WriteFile(filepath.Join(lower, "golden"), []byte("golden"), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	f := w.create(t, &w.call, "f", 0o644)
	var wcc, wcc2 nfs3.Wcc
	var made nfs3.New
	var attr nfs3.PostAttr
	write := func(c *nfs3.Call) nfs3.Status {
		_, _, st := w.Write(c, f, 0, []byte("x"), nfs3.Unstable, &nfs3.Wcc{})
		return st
	}

	// Writers that never stop: the gate shuts between two calls of each.
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for range 4 {
		c := w.call
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if st := write(&c); st != nfs3.OK && st != nfs3.ErrJukebox {
						t.Errorf("a writer: %v", st)
						return
					}
				}
			}
		})
	}
	for range 50 {
		release, err := w.Hold(t.Context(), w.exp.ID)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(filepath.Join(w.ov.Root, "f"))
		if err != nil {
			t.Fatal(err)
		}
		for name, st := range map[string]nfs3.Status{
			"write":   write(&w.call),
			"setattr": w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &wcc),
			"create":  w.Create(&w.call, w.root, "g", nfs3.Unchecked, &nfs3.SetAttr{}, 0, &made),
			"remove":  w.Remove(&w.call, w.root, "f", &wcc),
			"rename":  w.Rename(&w.call, w.root, "f", w.root, "g", &wcc, &wcc2),
			"link":    w.Link(&w.call, f, w.root, "g", &attr, &wcc),
		} {
			if st != nfs3.ErrJukebox {
				t.Errorf("%s while changes are held: %v", name, st)
			}
		}
		buf := make([]byte, 1)
		if _, _, st := w.Read(&w.call, f, 0, buf, &attr); st != nfs3.OK {
			t.Errorf("reading while changes are held: %v", st)
		}
		after, err := os.Stat(filepath.Join(w.ov.Root, "f"))
		if err != nil || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("it changed at %v (%v)", after.ModTime(), err)
		}
		if _, err := w.Hold(t.Context(), w.exp.ID); err == nil {
			t.Error("held twice at a time")
		}
		release()
		release() // does nothing
	}
	close(stop)
	writers.Wait()
	if st := write(&w.call); st != nfs3.OK {
		t.Errorf("writing after all: %v", st)
	}
}

// TestHoldEnds: a hold that waits for a call in vain lets the others in again.
func TestHoldEnds(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, false, func(string) {})
	o, st := w.beginChange(&w.call, w.root)
	if st != nfs3.OK {
		t.Fatal(st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Hold(ctx, w.exp.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("held while a call is inside: %v", err)
	}
	o.end()
	w.create(t, &w.call, "f", 0o644)
	if release, err := w.Hold(t.Context(), 12345); err != nil {
		t.Errorf("an export that is not published: %v", err)
	} else {
		release()
	}
}

// TestHoldOfAnother: an export may be withdrawn, or another root of it published, while
// a hold waits or is there. It is a hold of what is published then.
func TestHoldOfAnother(t *testing.T) {
	for name, anew := range map[string]func(t *testing.T, w *world){
		"withdrawn and published": func(t *testing.T, w *world) {
			must(t, w.Withdraw(w.exp.ID))
			w.publish(t)
		},
		"another mount": func(t *testing.T, w *world) {
			must(t, unix.Unmount(w.ov.Root, unix.MNT_DETACH)) // the server has it still
			other := *w.ov
			w.ov = &other
			base := t.TempDir()
			w.ov.Upper, w.ov.Work = filepath.Join(base, "u"), filepath.Join(base, "w")
			must(t, errors.Join(os.Mkdir(w.ov.Upper, 0o755), os.Mkdir(w.ov.Work, 0o755)))
			w.ov.Mount(t)
			w.publish(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir(), Options{AttrAge: time.Hour}, true, func(lower string) { write(t, lower+"/f", "golden") })
			// The row of the call that the hold waits for; Withdraw would wait for it, too.
			old := (*w.table.Load())[w.exp.ID]
			if !old.gate.Enter() {
				t.Fatal("shut")
			}
			type held struct {
				release func()
				err     error
			}
			done := make(chan held, 1)
			go func() {
				release, err := w.Hold(t.Context(), w.exp.ID)
				done <- held{release, err}
			}()
			for old.gate.Enter() { // until the hold waits
				old.gate.Leave()
				runtime.Gosched()
			}
			anew(t, w)
			old.gate.Leave()
			h := <-done
			must(t, h.err)
			f := w.lookup(t, "f")
			if st := w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &nfs3.Wcc{}); st != nfs3.ErrJukebox {
				t.Errorf("a change while changes are held: %v", st)
			}
			for _, mode := range []uint32{0o640, 0o604} {
				must(t, os.Chmod(w.ov.Root+"/f", os.FileMode(mode)))
				var a nfs3.Attr
				if st := w.GetAttr(&w.call, f, &a); st != nfs3.OK || a.Mode != mode {
					t.Errorf("status %v, mode %o, want %o: it was remembered", st, a.Mode, mode)
				}
			}
			h.release()
			if st := w.SetAttr(&w.call, f, &nfs3.SetAttr{SetMode: true, Mode: 0o600}, nil, &nfs3.Wcc{}); st != nfs3.OK {
				t.Errorf("a change after all: %v", st)
			}
		})
	}
}

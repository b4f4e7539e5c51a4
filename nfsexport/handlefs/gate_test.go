package handlefs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

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

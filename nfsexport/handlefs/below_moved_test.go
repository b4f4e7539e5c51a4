package handlefs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rubus/nfsexport/nfs3"
)

// TestMovedStack: a directory that two layers share is moved with all that the board
// holds of it, more than once.
func TestMovedStack(t *testing.T) {
	base := t.TempDir()
	w := &world{call: nfs3.Call{Peer: board}}
	w.FS = newFS(t, Options{})
	for i, dirs := range [][]string{{"m/s/deep/deeper", "m/t", "p/m2/x"}, {"m/s", "p/m2"}} {
		l := filepath.Join(base, fmt.Sprint(i))
		for _, d := range dirs {
			if err := os.MkdirAll(filepath.Join(l, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		w.exp.Layers = append(w.exp.Layers, l)
	}
	w.layered(t, base, "")
	all := w.walk(t)
	if got := w.written(t); len(got) > 0 {
		t.Fatalf("written: %q", got)
	}
	for i, step := range [][2]string{{"m", "new"}, {"p", "q"}, {"q/m2", "new/inside"}, {"new", "last"}} {
		from, to := filepath.Dir("/" + step[0])[1:], filepath.Dir("/" + step[1])[1:]
		hFrom, hTo := w.root, w.root
		if from != "" {
			hFrom = w.lookup(t, from)
		}
		if to != "" {
			hTo = w.lookup(t, to)
		}
		var a, b nfs3.Wcc
		if st := w.Rename(&w.call, hFrom, filepath.Base(step[0]), hTo, filepath.Base(step[1]), &a, &b); st != nfs3.OK {
			t.Fatalf("step %d: status %d", i, st)
		}
		w.hold(t, all)
		w.remount(t)
		w.hold(t, all)
	}
	w.asKernel(t, w.walk(t))
}

// TestLayersGone: a root whose layers cannot be mounted once more is served all the same.
func TestLayersGone(t *testing.T) {
	w := newLayered(t, 3, rand.New(rand.NewPCG(1, 1)))
	must(t, w.Withdraw(w.exp.ID))
	layers := w.exp.Layers
	w.exp.Layers = append([]string{"/none"}, layers...)
	w.publish(t)
	all := w.walk(t)
	w.exp.Layers = layers
	w.remount(t)
	w.hold(t, all)
}

// TestAttrsOfJoined: where a handle is not to be had without copying up, as below what
// a rebase has made, the answers are of what is there after it.
func TestAttrsOfJoined(t *testing.T) {
	for name, look := range map[string]func(w *world, dir []byte) nfs3.PostAttr{
		"LOOKUP": func(w *world, dir []byte) (d nfs3.PostAttr) {
			var h []byte
			var a nfs3.PostAttr
			if st := w.Lookup(&w.call, dir, "sub", &h, &a, &d); st != nfs3.OK {
				t.Fatal(st)
			}
			return d
		},
		"READDIRPLUS": func(w *world, dir []byte) (d nfs3.PostAttr) {
			var verf uint64
			if _, st := w.ReadDir(&w.call, dir, 0, &verf, true, nfs3.EntryFunc(func(*nfs3.Entry) bool { return true }), &d); st != nfs3.OK {
				t.Fatal(st)
			}
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := &truth{t: t, used: true}
			x.world = newWorld(t, t.TempDir(), Options{AttrAge: time.Hour}, true, func(lower string) {
				must(t, os.MkdirAll(filepath.Join(lower, "d/sub"), 0o755))
				must(t, os.Mkdir(filepath.Join(lower, "../upper/d"), 0o755))
			})
			dir := x.lookup(t, "d")
			ask := func() (a nfs3.PostAttr) {
				a.OK = x.GetAttr(&x.call, dir, &a.Attr) == nfs3.OK
				return a
			}
			before := ask()
			x.same("in the reply", "d", look(x.world, dir))
			after := ask()
			x.same("GETATTR", "d", after)
			if after == before {
				t.Error("nothing was copied up: this shows nothing")
			}
		})
	}
}

package attrcache

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestHolds(t *testing.T) {
	const ino, other = 7, 8
	for _, c := range []struct {
		name string
		do   func(t *Tree)
		want bool
	}{
		{"nothing", func(*Tree) {}, true},
		{"a change runs", func(t *Tree) { t.Change() }, false},
		{"a change ran", func(t *Tree) { c := t.Change(); c.End() }, false},
		{"a change of the file runs", func(t *Tree) { t.ChangeFile(ino) }, false},
		{"a change of the file ran", func(t *Tree) { c := t.ChangeFile(ino); c.End() }, false},
		{"a change of another file", func(t *Tree) { c := t.ChangeFile(other); c.End() }, true},
		{"no change ends", func(*Tree) { var c Change; c.End() }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tree Tree
			m, ok := tree.Mark(ino, nil)
			if !ok {
				t.Fatal("no mark, though nothing changes")
			}
			if c.do(&tree); tree.Holds(m, ino) != c.want {
				t.Errorf("holds: %v", !c.want)
			}
		})
	}
}

// Nobody marks a moment in a change but who makes it, and he only when he is alone.
func TestMark(t *testing.T) {
	const ino = 7
	marked := func(tree *Tree, own *Change) bool { _, ok := tree.Mark(ino, own); return ok }
	for name, begin := range map[string]func(*Tree) Change{
		"of the tree": (*Tree).Change, "of a file": func(t *Tree) Change { return t.ChangeFile(ino) },
	} {
		t.Run(name, func(t *testing.T) {
			var tree Tree
			c := begin(&tree)
			if marked(&tree, nil) {
				t.Error("somebody marked a moment in a change")
			}
			m, ok := tree.Mark(ino, &c)
			if !ok {
				t.Error("who changes alone cannot mark when he has done")
			}
			if c.End(); !tree.Holds(m, ino) {
				t.Error("what was read at the end of a change is not true after it")
			}
			first, second := begin(&tree), begin(&tree)
			if marked(&tree, &first) || marked(&tree, &second) {
				t.Error("one of two marked")
			}
			if first.End(); marked(&tree, &second) {
				t.Error("marked, though another ran meanwhile")
			}
			if second.End(); !marked(&tree, nil) {
				t.Error("no mark when all have ended")
			}
			long := begin(&tree)
			short := begin(&tree)
			short.End()
			if third := begin(&tree); marked(&tree, &third) {
				t.Error("marked beside a change that began long ago")
			} else {
				third.End()
			}
			long.End()
		})
	}
}

func TestShape(t *testing.T) {
	var tree Tree
	n, calm := tree.Shape()
	f := tree.ChangeFile(1)
	if m, ok := tree.Shape(); !calm || !ok || m != n {
		t.Error("a change of a file is none of the tree")
	}
	f.End()
	c := tree.Change()
	if _, ok := tree.Shape(); ok || !c.Running() {
		t.Error("calm in a change")
	}
	c.End()
	if m, ok := tree.Shape(); !ok || m == n || c.Running() {
		t.Error("a change was not counted")
	}
}

// What is kept as true is true: a value that writers change, and readers keep.
func TestRace(t *testing.T) {
	const ino, rounds = 7, 20000
	var tree Tree
	var value atomic.Int64
	var writers, readers sync.WaitGroup
	var over atomic.Bool
	for i := range 2 {
		writers.Go(func() {
			for n := range rounds {
				c := tree.Change()
				if (n+i)%2 == 0 {
					c.End()
					c = tree.ChangeFile(ino)
				}
				value.Add(1)
				c.End()
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for !over.Load() {
				m, ok := tree.Mark(ino, nil)
				v := value.Load()
				for range 3 {
					// Read before it is asked: it may change after.
					if now := value.Load(); ok && tree.Holds(m, ino) && v != now {
						t.Errorf("%d is said to hold, it is %d", v, now)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	over.Store(true)
	readers.Wait()
}

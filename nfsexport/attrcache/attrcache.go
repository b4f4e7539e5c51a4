package attrcache

import (
	"sync/atomic"
	"time"
)

// Tree knows which changes to a tree of files have begun and ended. Attributes that
// were read while no change ran are true until the next one begins: then they are
// read again. The zero Tree is of no change. All methods may be called from many
// goroutines at once; none blocks or allocates.
//
// A change is of the whole tree when it may show at files other than the one it is
// about: names, links, owners and modes, everything that copies a lower file up (which
// gives new times and a new link count to the directories above it). A change of one
// file is one that shows at that file alone, as data written to it and its times.
type Tree struct {
	all   count
	files [slots]count // by inode number
}

// slots is how many files have a count of their own; others share one with them, which
// costs a reading too many now and then.
const slots = 64

// count is how many changes began and how many of these have ended.
type count struct{ begun, ended atomic.Uint64 }

// idle gives the number of changes that began, when all of them have ended.
func (c *count) idle() (n uint64, ok bool) {
	n = c.ended.Load() // first: between the two loads nothing ran
	return n, n == c.begun.Load()
}

func (t *Tree) file(ino uint64) *count { return &t.files[ino%slots] }

// Change is a change that runs. The zero Change is none.
type Change struct {
	of    *count
	n     uint64 // of the changes of this count
	alone bool   // no other ran when it began
}

// Change begins a change of the tree. It comes before the first system call that
// changes something; End must follow.
func (t *Tree) Change() Change { return t.all.change() }

// ChangeFile is Change for a change of one file.
func (t *Tree) ChangeFile(ino uint64) Change { return t.file(ino).change() }

func (c *count) change() Change {
	n := c.begun.Add(1)
	return Change{of: c, n: n, alone: c.ended.Load() == n-1}
}

// End ends the change, after its last system call that changes something and before
// anybody is told of it. Without a change that runs it does nothing.
func (c *Change) End() {
	if c.of != nil {
		c.of.ended.Add(1)
		*c = Change{}
	}
}

// Running says whether the change has begun and not ended.
func (c *Change) Running() bool { return c.of != nil }

// Shape is how many changes of the whole tree there were, while none runs: as long as
// it stays the same no lower file was copied up.
func (t *Tree) Shape() (n uint64, ok bool) { return t.all.idle() }

// Mark is a moment between changes.
type Mark struct{ all, file uint64 }

// Mark gives the moment; it is taken before attributes of the file with inode number
// ino are read. It is false while a change runs, but for own: a change of the caller,
// or nil, that has nothing left to do but to End.
func (t *Tree) Mark(ino uint64, own *Change) (m Mark, ok bool) {
	if m.all, ok = t.all.mark(own); !ok {
		return m, false
	}
	m.file, ok = t.file(ino).mark(own)
	return m, ok
}

func (c *count) mark(own *Change) (n uint64, ok bool) {
	if own != nil && own.of == c {
		return own.n, own.alone && c.begun.Load() == own.n
	}
	return c.idle()
}

// Reading says since when something that was read of a file is true.
type Reading struct {
	OK   bool // else only its reader may use it
	Mark Mark
	At   time.Duration // on the reader's clock
}

// Holds says whether what was read of the file after m is true still.
func (t *Tree) Holds(m Mark, ino uint64) bool {
	return m.all == t.all.begun.Load() && m.file == t.file(ino).begun.Load()
}

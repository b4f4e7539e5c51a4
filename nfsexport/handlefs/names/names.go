package names

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/stamp"
)

// Table is of a fixed size: who comes later takes the place. Its methods may be called
// from many goroutines at once.
type Table struct {
	seed  maphash.Seed
	slots [slots]atomic.Pointer[Name]
}

// slots times about 200 bytes is what a table may take.
const slots = 1 << 14

// New makes a table of no names.
func New() *Table { return &Table{seed: maphash.MakeSeed()} }

// Name is what is remembered of a name. It never changes.
type Name struct {
	dir  uint64
	at   stamp.Stamp
	name string
	None bool        // there is nothing of that name
	Key  fhandle.Key // with None it says the export alone
}

func (t *Table) slot(dir uint64, name string) *atomic.Pointer[Name] {
	var h maphash.Hash
	h.SetSeed(t.seed)
	h.WriteString(name)
	return &t.slots[(h.Sum64()^dir*0x9e3779b97f4a7c15)%slots]
}

// Find gives what is remembered of a name, or nil: dir is a number that its directory
// alone has, which has the stamp at now.
func (t *Table) Find(dir uint64, at stamp.Stamp, name string) *Name {
	n := t.slot(dir, name).Load()
	if n == nil || n.dir != dir || n.at != at || n.name != name {
		return nil
	}
	return n
}

// Keep remembers a name and what it stands for, or that it stands for nothing; then k says
// the export alone. The directory had the stamp at, and was settled, before the name was
// asked for.
func (t *Table) Keep(dir uint64, at stamp.Stamp, name string, none bool, k *fhandle.Key) {
	t.slot(dir, name).Store(&Name{dir: dir, at: at, name: strings.Clone(name), None: none, Key: *k})
}

// Forget lets go of all names below an export, whose directories are closed for good: when
// it comes back they are others, and nobody would ask for these again.
func (t *Table) Forget(id nfsexport.ID) {
	for i := range t.slots {
		if n := t.slots[i].Load(); n != nil && n.Key.Export() == id {
			t.slots[i].CompareAndSwap(n, nil)
		}
	}
}

package golden

import (
	"container/list"
	"sync"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/stamp"
)

// What a first listing has found in a golden directory is so on all boards of the image, as
// layers never change. So it is remembered, and the first listing of the next board asks
// whether the directory is golden there, and nothing else: names are the same, files and
// symbolic links differ in what says which export they are of.

// Most bounds the memory of what is remembered, in bytes: about as many files as package shown
// has.
const Most = 32 << 20

// Table remembers golden directories. Its methods may be called from many goroutines at once.
type Table struct {
	most int

	mu    sync.Mutex
	m     map[ID]*list.Element // of *Directory
	order list.List            // the one made first at the front
	bytes int
}

// New makes a table of no directories, which takes so many bytes, as a rule Most.
func New(most int) *Table { return &Table{most: most, m: map[ID]*list.Element{}} }

// ID is a directory of an image.
type ID struct {
	image uint64
	dir   fhandle.Key // of no export
}

// IDOf makes the ID of the directory that dir is for a board of the image.
func IDOf(image uint64, dir *fhandle.Key) ID {
	id := ID{image, *dir}
	id.dir.SetExport(0)
	return id
}

// Stat tells a directory of a layer from others, and from what it was before.
type Stat struct {
	Dev uint64
	stamp.Identity
}

// Directory is a golden directory. It never changes, but that more becomes known of its entries.
type Directory struct {
	id ID
	is Stat
	// List is the directory read whole. Its runs are those of the board that asked the layer,
	// see listing.Run.Golden.
	List *listing.Listing
}

// Is says whether the directory is what it was.
func (d *Directory) Is(now *Stat) bool { return d.is == *now }

// Find gives what is remembered of a directory, or nil.
func (t *Table) Find(id *ID) *Directory {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.m[*id]; e != nil {
		return e.Value.(*Directory)
	}
	return nil
}

// Of gives what boards share of the directory that l is a listing of, and remembers it if need
// be; nil: it has no room. l was read whole, and then the directory had the stamp of now.
func (t *Table) Of(id *ID, now *Stat, l *listing.Listing) *listing.Listing {
	if d := t.Find(id); d != nil && d.Is(now) && d.List.Same(l) {
		return d.List
	}
	if l.Bytes() > t.most/2 {
		return nil
	}
	d := &Directory{*id, *now, l.Fork()}
	t.put(d)
	return d.List
}

// put remembers d and lets go of the oldest when there are too many.
func (t *Table) put(d *Directory) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(t.m[d.id])
	t.m[d.id] = t.order.PushBack(d)
	for t.bytes += d.List.Bytes(); t.bytes > t.most; {
		t.remove(t.order.Front())
	}
}

func (t *Table) remove(e *list.Element) {
	if e == nil {
		return
	}
	d := t.order.Remove(e).(*Directory)
	delete(t.m, d.id)
	t.bytes -= d.List.Bytes()
}

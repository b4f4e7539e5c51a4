package handlefs

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/stamp"
)

// What a first listing has found in a golden directory is so on all boards of the image, as
// layers never change. So it is remembered, and the first listing of the next board asks
// whether the directory is golden there, and nothing else: names are the same, files and
// symbolic links differ in what says which export they are of.

// goldenAge is for how long attributes of a layer are told to boards that list a directory for
// the first time. It is for what nobody is to do: change a layer in place. Times of the last
// access move when somebody reads a layer on the host.
const goldenAge = time.Minute

// maxGoldens bounds the memory of what is remembered, in bytes: about as many files as shown has.
const maxGoldens = 32 << 20

// goldenLists remembers golden directories.
type goldenLists struct {
	max int

	mu    sync.Mutex
	m     map[goldenID]*list.Element // of *goldenList
	order list.List                  // the one made first at the front
	total int
}

// goldenID is a directory of an image.
type goldenID struct {
	image uint64      // root.image
	dir   fhandle.Key // of no export
}

// goldenList is a golden directory read whole. It never changes, but that more becomes known of
// its entries.
type goldenList struct {
	id    goldenID
	is    goldenStat
	names string // these are as in a snapshot
	ents  []dirent
	// runs are those of the board that asked the layer, see entryRun.golden.
	runs  []atomic.Pointer[entryRun]
	bytes int
}

// goldenStat tells a directory of a layer from others, and from what it was before.
type goldenStat struct {
	dev uint64
	stamp.Identity
}

func (g *goldenLists) init() { g.max, g.m = maxGoldens, map[goldenID]*list.Element{} }

func goldenIDOf(image uint64, dir *fhandle.Key) goldenID {
	id := goldenID{image, *dir}
	id.dir.SetExport(0)
	return id
}

// find gives what is remembered of a directory, or nil.
func (g *goldenLists) find(id *goldenID) *goldenList {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.m[*id]; e != nil {
		return e.Value.(*goldenList)
	}
	return nil
}

// put remembers l and lets go of the oldest when there are too many.
func (g *goldenLists) put(l *goldenList) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(g.m[l.id])
	g.m[l.id] = g.order.PushBack(l)
	for g.total += l.bytes; g.total > g.max; {
		g.remove(g.order.Front())
	}
}

func (g *goldenLists) remove(e *list.Element) {
	if e == nil {
		return
	}
	l := g.order.Remove(e).(*goldenList)
	delete(g.m, l.id)
	g.total -= l.bytes
}

// takeGolden has s be what is remembered of the call's directory. It is false when there is
// nothing, or the directory is not golden, or another by now.
func (o *op) takeGolden(s *snapshot) bool {
	id := goldenIDOf(o.exp.root.image, &o.obj.key)
	l := o.fs.goldens.find(&id)
	if l == nil || !s.settled || o.goldenFD() < 0 || l.is != o.dir.is || l.is.Stamp != s.at {
		return false
	}
	var up unix.Stat_t
	if rawfs.StatAt(o.obj.fd, &rawfs.Name{'.', '.'}, &up) != 0 {
		return false
	}
	s.parent, s.names, s.ents = up.Ino, l.names, l.ents
	s.makeRuns()
	o.dir.list, o.dir.snap = l, s
	return true
}

// goldenRun is where the n-th run of s is remembered for other boards; nil: nowhere.
func (o *op) goldenRun(s *snapshot, n int) *atomic.Pointer[entryRun] {
	ents := s.ents[n*runLen : min((n+1)*runLen, len(s.ents))]
	if !slices.ContainsFunc(ents, func(d dirent) bool { return ofLayer(d.typ) }) || o.goldenFD() < 0 {
		return nil
	}
	g := &o.dir
	if g.snap != s {
		g.snap, g.list = s, o.listOf(s)
	}
	if g.list == nil {
		return nil
	}
	return &g.list.runs[n]
}

// listOf gives the list that s is, and remembers it if need be.
func (o *op) listOf(s *snapshot) *goldenList {
	if s.at != o.dir.is.Stamp {
		return nil
	}
	g, id := &o.fs.goldens, goldenIDOf(o.exp.root.image, &o.obj.key)
	if l := g.find(&id); l != nil && l.is == o.dir.is && l.names == s.names && slices.Equal(l.ents, s.ents) {
		return l
	}
	if s.bytes() > g.max/2 {
		return nil
	}
	l := &goldenList{id: id, is: o.dir.is, names: s.names, ents: s.ents, runs: make([]atomic.Pointer[entryRun], len(s.runs)), bytes: s.bytes()}
	g.put(l)
	return l
}

// known gives the run that is remembered there if it is young enough, or nil.
func (o *op) known(at *atomic.Pointer[entryRun]) *entryRun {
	if at == nil {
		return nil
	}
	r := at.Load()
	if r == nil {
		return nil
	}
	if age := o.since - r.asked; age >= goldenAge || age <= -goldenAge {
		return nil
	}
	return r
}

// addKnown adds to r the i-th entry of a run that another board of the image was told, as it is
// on this one. It is false where it is to be asked for, as in lookGolden.
func (o *op) addKnown(r, of *entryRun, i int, name string) bool {
	l, g := &o.lister, &o.dir
	if of.golden>>i&1 == 0 || !o.calm() {
		return false
	}
	if _, ok := fhandle.Parse(of.Handle(i), &o.k); !ok {
		return false
	}
	if o.k.SetExport(o.exp.ID); g.ix.has(&o.k) {
		return false
	}
	r.AddFor(&of.Run, i, uint64(o.exp.ID), l.handle[:o.fs.sealer.Seal(&o.k, &l.handle)])
	r.read[i].at = min(r.read[i].at, g.ix.at)
	o.shows(name)
	return true
}

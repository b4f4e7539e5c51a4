package handlefs

import (
	"hash/maphash"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/golden"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/stamp"
)

// Listings of golden directories. What overlayfs takes to find a name for the first time
// is three times what the file system below takes. But a directory that is one layer's
// alone, and in no upper, has what it has in its layer: so what is told of files and
// symbolic links in it, handle and attributes, is asked of the layer.
//
// A handle that is told so is one of which the kernel may not know a name, and a golden
// file that is written to by such a handle is copied up without one. So names are
// remembered that were told so, and the first call that comes with the handle opens the
// file by its name: from then on the kernel knows it. A name that was forgotten, as by a
// restart, leaves what there is after a restart of the machine: see package overlay,
// leftover_linux.go.

// goldenDir is the call's directory in its layer, open as long as the call runs.
type goldenDir struct {
	of    *object // nil: none is open
	fd    int     // -1: it is not golden
	is    golden.Stat
	mount int32
	ix    *indexed
	key   *fhandle.Key // a copy of the directory's

	shared *listing.Listing // what boards share of it; nil: nothing
	own    *listing.Listing // that was compared with it
}

func (g *goldenDir) close() {
	if g.of != nil && g.fd >= 0 {
		unix.Close(g.fd)
	}
	*g = goldenDir{}
}

// goldenFD opens the call's directory in its layer; -1: it is not golden, or not known to
// be. While nothing changes in the root, what is in it is golden too, but what g.ix has.
func (o *op) goldenFD() int {
	g := &o.dir
	if g.of == o.obj {
		return g.fd
	}
	g.close()
	g.of, g.fd = o.obj, -1
	if len(o.exp.Layers) == 0 || o.exp.root.index < 0 || o.obj.isRoot() || o.fs.opts.AttrAge <= 0 || !o.obj.key.SameDisk(&o.exp.root.key) || !o.obj.key.Lower() {
		return -1
	}
	if g.ix = o.indexed(); g.ix != nil && !g.ix.has(&o.obj.key) {
		g.fd = o.openGolden(g)
	}
	return g.fd
}

// openGolden opens the directory of the layer that the handle of the call's directory
// has, if it is the same in all that can be seen. See openLayer.
func (o *op) openGolden(g *goldenDir) int {
	if !o.obj.key.Inner(&o.h) {
		return -1
	}
	fd, e := o.h.Open(o.exp.root.index, unix.O_PATH|unix.O_DIRECTORY)
	if e != 0 {
		return -1
	}
	// What the host did is to be seen: the directory is asked for anew. One that is merged
	// has one link.
	var st, is unix.Stat_t
	var own fhandle.Kernel
	if g.mount, e = own.Of(fd, nil); e == 0 && own.Equal(&o.h) &&
		rawfs.Stat(o.obj.fd, &st) == 0 && rawfs.Stat(fd, &is) == 0 && st.Nlink > 1 && is.Ino == st.Ino && is.Mode == st.Mode && is.Nlink == st.Nlink && is.Uid == st.Uid && is.Gid == st.Gid &&
		is.Size == st.Size && is.Mtim == st.Mtim && is.Ctim == st.Ctim {
		k := o.obj.key
		g.is, g.key = golden.Stat{Dev: is.Dev, Identity: stamp.Identify(&is)}, &k
		return fd
	}
	unix.Close(fd)
	return -1
}

// lookGolden is look by the layer, for the entry with inode number ino and the handle h,
// which may be nil. It is false where the overlay is to be asked. Else what is told is true
// at a moment after attributes that are kept were begun to be read, see reads.
func (o *op) lookGolden(ino uint64, h []byte) bool {
	l, g := &o.lister, &o.dir
	if !ofLayer(l.typ) || o.goldenFD() < 0 || !o.calm() {
		return false
	}
	if rawfs.StatAt(g.fd, &l.name, &l.st) != 0 || l.st.Dev != g.is.Dev || l.st.Ino != ino {
		return false
	}
	if t := l.st.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFLNK {
		return false
	}
	if h != nil {
		var k fhandle.Key
		if _, ok := fhandle.Parse(h, &k); !ok || g.ix.has(&k) {
			return false
		}
		l.at = g.ix.at
		return true
	}
	var in fhandle.Kernel
	if m, e := in.Of(g.fd, &l.name); e != 0 || m != g.mount || !o.h.SetLower(&in, &o.obj.key) || !o.k.Set(&o.h) {
		return false
	}
	if o.k.SetExport(o.exp.ID); g.ix.has(&o.k) {
		return false
	}
	l.at = g.ix.at
	o.shows(l.entry.Name)
	return true
}

// ofLayer says whether a layer may be asked of entries of a type.
func ofLayer(typ uint8) bool {
	return typ == unix.DT_REG || typ == unix.DT_LNK || typ == unix.DT_UNKNOWN
}

// calm says whether nothing has changed in the root since the index was read: what is in the
// call's directory, which is golden, is so but for what the index has.
func (o *op) calm() bool {
	n, calm := o.exp.tree.Shape()
	return calm && n == o.dir.ix.shape
}

// indexed is what the index of a root has. It never changes.
type indexed struct {
	shape uint64        // of the tree when it was read
	at    time.Duration // then, see FS.began
	seed  maphash.Seed
	sums  []uint64 // of its names, in order
	many  bool     // more than are remembered: as a rule there will not be fewer
}

// maxIndexed is how many names are remembered of an index: their sums, as each root has
// some. Two with one sum cost that the overlay is asked of what a layer could tell.
const maxIndexed = 512

// has says whether what k stands for was copied up, or may have been.
func (x *indexed) has(k *fhandle.Key) bool {
	if len(x.sums) == 0 {
		return false
	}
	var name [fhandle.MaxIndexName]byte
	_, ok := slices.BinarySearch(x.sums, maphash.Bytes(x.seed, k.IndexName(&name)))
	return ok
}

// indexed gives what the index has now; nil: it is not known, or too much.
func (o *op) indexed() *indexed {
	r := o.exp.root
	n, calm := o.exp.tree.Shape()
	if !calm {
		return nil
	}
	if x := r.indexed.Load(); x != nil {
		if x.many {
			return nil
		}
		if x.shape == n && o.isFresh(x.at) {
			return x
		}
	}
	x := &indexed{shape: n, at: o.since, seed: o.fs.seed}
	dot := rawfs.Name{'.'}
	fd, e := rawfs.Open(r.index, &dot, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if e != 0 {
		return nil
	}
	defer unix.Close(fd)
	buf := o.fs.bufs.Get()
	defer o.fs.bufs.Put(buf)
	for {
		n, e := rawfs.ReadDir(fd, buf[:])
		switch {
		case e != 0:
			return nil
		case n == 0:
			slices.Sort(x.sums)
			r.indexed.Store(x)
			return x
		}
		var ent rawfs.Dirent
		for rest, ok := ent.Next(buf[:n]); ok; rest, ok = ent.Next(rest) {
			switch string(ent.Name) {
			case ".", "..":
				continue
			}
			if x.sums = append(x.sums, maphash.Bytes(x.seed, ent.Name)); len(x.sums) > maxIndexed {
				r.indexed.Store(&indexed{many: true})
				return nil
			}
		}
	}
}

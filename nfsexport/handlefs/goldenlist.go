package handlefs

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/golden"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/rawfs"
)

// goldenAge is for how long attributes of a layer are told to boards that list a directory for
// the first time. It is for what nobody is to do: change a layer in place. Times of the last
// access move when somebody reads a layer on the host.
const goldenAge = time.Minute

// takeGolden has l be what is remembered of the call's directory. It is false when there is
// nothing, or the directory is not golden, or another by now.
func (o *op) takeGolden(l *listing.Listing) bool {
	id := golden.IDOf(o.exp.root.image, &o.obj.key)
	d := o.fs.goldens.Find(&id)
	if d == nil || !l.Settled() || o.goldenFD() < 0 || !d.Is(&o.dir.is) || o.dir.is.Stamp != l.At() {
		return false
	}
	var up unix.Stat_t
	if rawfs.StatAt(o.obj.fd, &rawfs.Name{'.', '.'}, &up) != 0 {
		return false
	}
	l.Take(d.List, up.Ino)
	o.dir.shared, o.dir.own = d.List, l
	return true
}

// shared is the listing that has the n-th run of l for other boards; nil: none has.
func (o *op) shared(l *listing.Listing, n int) *listing.Listing {
	if !slices.ContainsFunc(l.RunEntries(n), func(e listing.Entry) bool { return ofLayer(e.Type) }) || o.goldenFD() < 0 {
		return nil
	}
	g := &o.dir
	if g.own != l {
		g.own, g.shared = l, nil
		if l.At() == g.is.Stamp {
			id := golden.IDOf(o.exp.root.image, &o.obj.key)
			g.shared = o.fs.goldens.Of(&id, &g.is, l)
		}
	}
	return g.shared
}

// known gives the n-th run of a listing that boards share if it is young enough, or nil.
func (o *op) known(shared *listing.Listing, n int) *listing.Run {
	if shared == nil {
		return nil
	}
	r := shared.Run(n)
	if r == nil {
		return nil
	}
	if age := o.since - r.Asked; age >= goldenAge || age <= -goldenAge {
		return nil
	}
	return r
}

// addKnown adds to r the i-th entry of a run that another board of the image was told, as it is
// on this one. It is false where it is to be asked for, as in lookGolden.
func (o *op) addKnown(r, of *listing.Run, i int, name string) bool {
	l, g := &o.lister, &o.dir
	if of.Golden>>i&1 == 0 || !o.calm() {
		return false
	}
	if _, ok := fhandle.Parse(of.Handle(i), &o.k); !ok {
		return false
	}
	if o.k.SetExport(o.exp.ID); g.ix.has(&o.k) {
		return false
	}
	r.AddFor(&of.Run, i, uint64(o.exp.ID), l.handle[:o.fs.sealer.Seal(&o.k, &l.handle)])
	r.Read[i].At = min(r.Read[i].At, g.ix.at)
	o.shows(name)
	return true
}

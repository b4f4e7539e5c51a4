package handlefs

import (
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/nfs3"
)

// run gives the n-th run of s as it is now; nil: one of its entries is not as it was
// listed.
func (o *op) run(s *listing.Listing, n int) *listing.Run {
	r := s.Run(n)
	if r != nil && o.runHolds(r, s.RunEntries(n)) {
		return r
	}
	if r = o.lookAll(s, n, r); r != nil {
		s.SetRun(n, r)
	}
	return r
}

func (o *op) runHolds(r *listing.Run, ents []listing.Entry) bool {
	for i := range ents {
		if !o.holds(&r.Read[i], ents[i].Ino) {
			return false
		}
	}
	return true
}

// lookAll makes the n-th run of s, with what is true still of old, which may be nil.
func (o *op) lookAll(s *listing.Listing, n int, old *listing.Run) *listing.Run {
	ents := s.RunEntries(n)
	names := 0
	for i := range ents {
		names += len(s.Name(&ents[i]))
	}
	r := &listing.Run{Run: nfs3.MakeRun(len(ents), names, int(o.obj.n)+1), Asked: o.since}
	var shared *listing.Listing
	if old == nil {
		shared = o.shared(s, n)
	}
	known := o.known(shared, n)
	l := &o.lister
	for i := range ents {
		d := &ents[i]
		var h []byte
		if old != nil {
			if o.holds(&old.Read[i], d.Ino) {
				r.Read[i] = old.Read[i]
				r.AddOf(&old.Run, i)
				continue
			}
			h = old.Handle(i)
		}
		r.Read[i] = o.reads(d.Ino, nil)
		if known != nil && o.addKnown(r, known, i, s.Name(d)) {
			continue
		}
		l.typ = d.Type
		l.entry = nfs3.Entry{FileID: d.Ino, Name: s.Name(d), Cookie: d.Cookie}
		if e := o.look(h); e != 0 || len(l.entry.Handle) == 0 {
			return nil
		}
		if l.golden {
			r.Golden |= 1 << i
		}
		r.Read[i].At = min(r.Read[i].At, l.at)
		r.Read[i].OK = r.Read[i].OK && l.entry.FileID == d.Ino // else the listing has it otherwise
		r.Add(&l.entry)
	}
	if shared != nil && known == nil && r.Golden != 0 {
		shared.SetRun(n, r)
	}
	return r
}

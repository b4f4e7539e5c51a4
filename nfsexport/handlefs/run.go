package handlefs

import "rubus/nfsexport/nfs3"

// runLen is how many entries of a listing are remembered together.
const runLen = 16

// entryRun is what is known of runLen entries of a snapshot, or of its last ones: handles, for
// as long as the snapshot holds, and attributes for as long as they do. It never changes.
type entryRun struct {
	nfs3.Run
	read [runLen]reading
}

// runSize is the memory of a run besides its entries, with its place in a snapshot.
const runSize = 8 + 576

// runBytes is what the runs of s take at most.
func (s *snapshot) runBytes() int {
	if s.runs == nil {
		return 0
	}
	return len(s.names) + len(s.ents)*nfs3.RunEntry + len(s.runs)*runSize
}

// run gives the n-th run of s as it is now; nil: one of its entries is not as it was
// listed.
func (o *op) run(s *snapshot, n int) *entryRun {
	ents := s.ents[n*runLen : min((n+1)*runLen, len(s.ents))]
	r := s.runs[n].Load()
	if r != nil && o.runHolds(r, ents) {
		return r
	}
	if r = o.lookAll(s, ents, r); r != nil {
		s.runs[n].Store(r)
	}
	return r
}

func (o *op) runHolds(r *entryRun, ents []dirent) bool {
	for i := range ents {
		if !o.holds(&r.read[i], ents[i].ino) {
			return false
		}
	}
	return true
}

// lookAll makes the run of ents, with what is true still of old, which may be nil.
func (o *op) lookAll(s *snapshot, ents []dirent, old *entryRun) *entryRun {
	names := 0
	for i := range ents {
		names += int(ents[i].n)
	}
	r := &entryRun{Run: nfs3.MakeRun(len(ents), names)}
	l := &o.lister
	for i := range ents {
		d := &ents[i]
		var h []byte
		if old != nil {
			if o.holds(&old.read[i], d.ino) {
				r.read[i] = old.read[i]
				r.AddOf(&old.Run, i)
				continue
			}
			h = old.Handle(i)
		}
		r.read[i] = o.reads(d.ino, nil)
		l.typ = d.typ
		l.entry = nfs3.Entry{FileID: d.ino, Name: s.name(d), Cookie: d.cookie}
		if e := o.look(h); e != 0 || len(l.entry.Handle) == 0 {
			return nil
		}
		r.read[i].at = min(r.read[i].at, l.at)
		r.read[i].ok = r.read[i].ok && l.entry.FileID == d.ino // else the listing has it otherwise
		r.Add(&l.entry)
	}
	return r
}

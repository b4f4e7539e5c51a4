package handlefs

import (
	"sync/atomic"
	"time"

	"rubus/nfsexport/nfs3"
)

// runLen is how many entries of a listing are remembered together.
const runLen = 16

// entryRun is what is known of runLen entries of a snapshot, or of its last ones: handles, for
// as long as the snapshot holds, and attributes for as long as they do. It never changes.
type entryRun struct {
	nfs3.Run
	read [runLen]reading

	golden uint32        // a bit for each entry of which a layer was asked
	asked  time.Duration // before that, since FS.began
}

// runSize is the memory of a run besides its entries, with its place in a snapshot.
const runSize = 8 + 592

// runBytes is what the runs of s take at most.
func (s *snapshot) runBytes() int {
	if s.runs == nil {
		return 0
	}
	return len(s.names) + len(s.ents)*nfs3.RunEntry + len(s.runs)*runSize
}

// makeRuns makes room for them.
func (s *snapshot) makeRuns() {
	s.runs = make([]atomic.Pointer[entryRun], (len(s.ents)+runLen-1)/runLen)
}

// run gives the n-th run of s as it is now; nil: one of its entries is not as it was
// listed.
func (o *op) run(s *snapshot, n int) *entryRun {
	ents := s.ents[n*runLen : min((n+1)*runLen, len(s.ents))]
	r := s.runs[n].Load()
	if r != nil && o.runHolds(r, ents) {
		return r
	}
	if r = o.lookAll(s, n, r); r != nil {
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

// lookAll makes the n-th run of s, with what is true still of old, which may be nil.
func (o *op) lookAll(s *snapshot, n int, old *entryRun) *entryRun {
	ents := s.ents[n*runLen : min((n+1)*runLen, len(s.ents))]
	names := 0
	for i := range ents {
		names += int(ents[i].n)
	}
	r := &entryRun{Run: nfs3.MakeRun(len(ents), names, int(o.obj.n)+1), asked: o.since}
	var shared *atomic.Pointer[entryRun]
	if old == nil {
		shared = o.goldenRun(s, n)
	}
	known := o.known(shared)
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
		if known != nil && o.addKnown(r, known, i, s.name(d)) {
			continue
		}
		l.typ = d.typ
		l.entry = nfs3.Entry{FileID: d.ino, Name: s.name(d), Cookie: d.cookie}
		if e := o.look(h); e != 0 || len(l.entry.Handle) == 0 {
			return nil
		}
		if l.golden {
			r.golden |= 1 << i
		}
		r.read[i].at = min(r.read[i].at, l.at)
		r.read[i].ok = r.read[i].ok && l.entry.FileID == d.ino // else the listing has it otherwise
		r.Add(&l.entry)
	}
	if shared != nil && known == nil && r.golden != 0 {
		shared.Store(r)
	}
	return r
}

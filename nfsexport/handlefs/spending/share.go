package spending

import (
	"sync"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
)

// Share is what is counted for an object: nothing as long as it is golden. Its methods are
// called with it locked; those that take a Quota always get the export's. The zero Share is
// that of an object of which nothing is known.
type Share struct {
	sync.Mutex
	// known is the number of the count on disk since which bytes is right, plus 1.
	known uint64
	bytes int64
	// found is what it had when that was learnt, and not counted.
	found int64
	upper bool // it is the board's: in the upper
	gone  bool // its last name is removed, and it counts no more
}

func round(q *nfsexport.Quota) uint64 { return uint64(q.Round()) + 1 }

// Unknown says whether Learn is to be called before anything is counted: the first time,
// and after each count on disk.
func (s *Share) Unknown(q *nfsexport.Quota) bool { return s.known != round(q) && !s.gone }

// Learn makes the share right for before a call: the object has the attributes st, read
// while it is locked, and is in the upper or not. It counts nothing: whoever has made what
// is there has counted it, or the count on disk has.
func (s *Share) Learn(q *nfsexport.Quota, st *unix.Stat_t, upper bool) {
	if s.gone = s.known == 0 && st.Nlink == 0; s.gone {
		return // removed after it was opened, and counted out by who did that
	}
	s.known, s.bytes = round(q), 0
	if s.upper = s.upper || upper; s.upper {
		s.bytes = Bytes(st)
	}
	s.found = s.bytes
}

// Upper says whether the object is known to be the board's.
func (s *Share) Upper() bool { return s.upper }

// Golden says whether a change copies the object up, which takes room for all of it.
func (s *Share) Golden() bool { return !s.upper && !s.gone }

// Count counts what the object takes now: it is the board's, with the attributes st.
func (s *Share) Count(q *nfsexport.Quota, st *unix.Stat_t) {
	if s.gone {
		return
	}
	files := int64(0)
	if !s.upper {
		s.upper, files = true, 1
	}
	now := Bytes(st)
	q.Add(now-s.bytes, files)
	s.bytes = now
}

// Made is Count for a call that has made the object. Another call may have come to it
// first, and have learnt that it is there: then what it found is counted now.
func (s *Share) Made(q *nfsexport.Quota, st *unix.Stat_t) {
	if s.known != 0 {
		q.Add(s.found, 1)
		return
	}
	s.known = round(q)
	s.Count(q, st)
}

// Removed counts the object out: its last name was removed. What is written to it from
// then on is not counted.
func (s *Share) Removed(q *nfsexport.Quota) {
	if s.upper && !s.gone {
		q.Add(-s.bytes, -1)
	}
	s.gone = true
}

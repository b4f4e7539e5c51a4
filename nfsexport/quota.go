package nfsexport

import (
	"sync"
	"sync/atomic"
	"time"
)

// Quota is how much a board may have below one export, and what it has: counted by
// the server, call by call, and set right by whoever counts it on the disk. It is
// shared by all Exports of one ID. The zero Quota has no limit and counts nothing.
// Its methods may be called from many goroutines at once and do not block.
type Quota struct {
	limited            atomic.Bool
	maxBytes, maxFiles atomic.Int64
	bytes, files       atomic.Int64
	// round is the number of the last count on disk, changes of the last change.
	round   atomic.Uint32
	changes atomic.Uint64
	full    atomic.Bool
	refused atomic.Uint64

	relief atomic.Pointer[func(do func())]

	mu   sync.Mutex
	told time.Time
}

// Space is a number of bytes, as the file system's blocks take them, and of files:
// all that has an inode.
type Space struct {
	Bytes int64 `json:"bytes"`
	Files int64 `json:"files"`
}

// Limit sets how much the board may have, from the next call on; 0 is no limit.
// What it has already stays.
func (q *Quota) Limit(max Space) {
	q.maxBytes.Store(max.Bytes)
	q.maxFiles.Store(max.Files)
	q.limited.Store(max != Space{})
	if q.roomy() {
		q.full.Store(false)
	}
}

// Max is the limit now.
func (q *Quota) Max() Space { return Space{q.maxBytes.Load(), q.maxFiles.Load()} }

// Counts says whether there is a limit.
func (q *Quota) Counts() bool { return q != nil && q.limited.Load() }

// Used is what the board has, as far as was counted: see Round.
func (q *Quota) Used() Space { return Space{q.bytes.Load(), q.files.Load()} }

// Round is the number of the last count on disk; 0: there was none, and Used is
// only what came since.
func (q *Quota) Round() uint32 { return q.round.Load() }

// Full says that a call did not fit, and that there is not much room since.
func (q *Quota) Full() bool { return q.full.Load() }

// Refused counts the calls that did not fit.
func (q *Quota) Refused() uint64 { return q.refused.Load() }

// roomy says that a good part of the limit is left.
func (q *Quota) roomy() bool {
	mb, mf := q.maxBytes.Load(), q.maxFiles.Load()
	return (mb == 0 || q.bytes.Load() <= mb-mb/32) && (mf == 0 || q.files.Load() <= mf-mf/32)
}

// Take takes room for what a call is about to make; false: it is not there, and
// nothing is taken.
func (q *Quota) Take(bytes, files int64) bool {
	mb, mf := q.maxBytes.Load(), q.maxFiles.Load()
	over := q.bytes.Add(bytes) > mb && mb > 0 && bytes > 0
	if q.files.Add(files) > mf && mf > 0 && files > 0 || over {
		q.bytes.Add(-bytes)
		q.files.Add(-files)
		q.refused.Add(1)
		q.full.Store(true)
		return false
	}
	return true
}

// Add counts what a call has made, or what it took and did not need.
func (q *Quota) Add(bytes, files int64) {
	if bytes == 0 && files == 0 {
		return
	}
	q.bytes.Add(bytes)
	q.files.Add(files)
	q.changes.Add(1)
	if q.full.Load() && q.roomy() {
		q.full.Store(false)
	}
}

// OnFull says how a call that takes something away gets the little that it may need
// where the kernel keeps the quota: f runs do while there is a little more.
func (q *Quota) OnFull(f func(do func())) { q.relief.Store(&f) }

// Relieve runs do with a little more than the quota; false: there is no way, and it
// was not run.
func (q *Quota) Relieve(do func()) bool {
	if q == nil {
		return false
	}
	f := q.relief.Load()
	if f != nil {
		(*f)(do)
	}
	return f != nil
}

// tellAgain is how long the log says nothing more of a quota that is full.
const tellAgain = time.Minute

// Tell says whether it is time to say that the quota is full.
func (q *Quota) Tell(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.told.IsZero() && now.Sub(q.told) < tellAgain {
		return false
	}
	q.told = now
	return true
}

// Mark is a moment from which a board's files are counted on disk.
type Mark struct {
	changes uint64
	bytes   int64
	files   int64
}

// Mark is to be taken before the count on disk begins.
func (q *Quota) Mark() Mark {
	return Mark{q.changes.Load(), q.bytes.Load(), q.files.Load()}
}

// Counted tells what a count on disk that began at m has found. It says whether it
// is exact: if the board changed something meanwhile, what it came to grow by is
// counted once more, as the count may have missed it.
func (q *Quota) Counted(m Mark, found Space) (exact bool) {
	exact = q.changes.Load() == m.changes
	bytes, files := q.bytes.Load(), q.files.Load()
	q.bytes.Add(found.Bytes + max(0, bytes-m.bytes) - bytes)
	q.files.Add(found.Files + max(0, files-m.files) - files)
	q.round.Add(1)
	if q.roomy() {
		q.full.Store(false)
	}
	return exact
}

// Changed says whether anything was counted since m.
func (q *Quota) Changed(m Mark) bool { return q.changes.Load() != m.changes }

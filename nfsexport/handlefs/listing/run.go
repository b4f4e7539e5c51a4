package listing

import (
	"sync/atomic"
	"time"

	"rubus/nfsexport/attrcache"
	"rubus/nfsexport/nfs3"
)

// RunLen is how many entries of a listing are remembered together.
const RunLen = 16

// Run is what is known of RunLen entries of a listing, or of its last ones: handles, for
// as long as the listing holds, and attributes for as long as they do. It never changes.
type Run struct {
	nfs3.Run
	Read [RunLen]attrcache.Reading

	Golden uint32        // a bit for each entry of which a layer was asked
	Asked  time.Duration // before that, on the clock of the readings
}

// runSize is the memory of a run besides its entries, with its place in a listing.
const runSize = 8 + 592

// runBytes is what the runs of l take at most.
func (l *Listing) runBytes() int {
	if l.runs == nil {
		return 0
	}
	return len(l.names) + len(l.ents)*nfs3.RunEntry + len(l.runs)*runSize
}

// makeRuns makes room for them.
func (l *Listing) makeRuns() {
	l.runs = make([]atomic.Pointer[Run], (len(l.ents)+RunLen-1)/RunLen)
}

// HasRuns says whether what is known of entries is kept, all of them: of a small directory
// that is settled.
func (l *Listing) HasRuns() bool { return l.runs != nil }

// RunEntries are the entries of the n-th run.
func (l *Listing) RunEntries(n int) []Entry {
	return l.ents[n*RunLen : min((n+1)*RunLen, len(l.ents))]
}

// Run gives what is known of them, or nil.
func (l *Listing) Run(n int) *Run { return l.runs[n].Load() }

// SetRun remembers it.
func (l *Listing) SetRun(n int, r *Run) { l.runs[n].Store(r) }

package meter

import (
	"sync"
	"sync/atomic"
	"time"
)

// Phase is what an import is doing.
type Phase string

// The phases of an import, in their order.
const (
	Fetching  Phase = "fetching"  // a zip file that comes as a stream is kept
	Unpacking Phase = "unpacking" // a disk image is decompressed
	Reading   Phase = "reading"   // content is copied
	Syncing   Phase = "syncing"   // all is brought to the disk, and the version made
	Joining   Phase = "joining"   // the version is there; what the store had already is found
	Done      Phase = "done"      // nothing is left to do
)

// Event is how far an import is.
type Event struct {
	Phase Phase
	// Read is how much of the source was read, in bytes: of a tarball as it
	// lies on the disk, of a directory the content. Total is all of it, 0 while unknown.
	Read, Total int64
	// Files counts names so far.
	Files int64
}

// Meter counts how far an import is; the zero value is ready. Its methods may be called from several goroutines.
type Meter struct {
	Read, Total, Files atomic.Int64
	// Came and Coming are of a stream that is kept; Read and Total count at the same time.
	Came, Coming atomic.Int64
	phase        atomic.Pointer[Phase]
	poke         chan struct{}
}

// SetPhase says what is done from now on, and tells it at once.
func (m *Meter) SetPhase(p Phase) {
	m.phase.Store(&p)
	if m.poke != nil {
		m.poke <- struct{}{}
		m.poke <- struct{}{} // the first was taken: so this one says it was told
	}
}

func (m *Meter) event() Event {
	e := Event{Phase: Reading, Read: m.Read.Load(), Total: m.Total.Load(), Files: m.Files.Load()}
	if p := m.phase.Load(); p != nil {
		e.Phase = *p
	}
	if e.Phase == Fetching || e.Phase == Unpacking {
		e.Read, e.Total = m.Came.Load(), m.Coming.Load()
	}
	return e
}

// Report calls tell with events until stop is called; then nothing is called any more.
func (m *Meter) Report(tell func(Event)) (stop func()) {
	if tell == nil {
		return func() {}
	}
	m.poke = make(chan struct{})
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-m.poke:
				tell(m.event())
				<-m.poke
			case <-tick.C:
				tell(m.event())
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(quit)
		<-ended
	})
}

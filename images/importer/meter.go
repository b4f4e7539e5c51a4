package importer

import (
	"sync"
	"sync/atomic"
	"time"
)

// meter counts how far an import is.
type meter struct {
	read, total, files atomic.Int64
	// came and coming are of a stream that is kept; read and total count at the same time.
	came, coming atomic.Int64
	phase        atomic.Pointer[Phase]
	poke         chan struct{}
}

func (m *meter) setPhase(p Phase) {
	m.phase.Store(&p)
	if m.poke != nil {
		m.poke <- struct{}{}
		m.poke <- struct{}{} // the first was taken: so this one says it was told
	}
}

func (m *meter) event() Event {
	e := Event{Phase: Reading, Read: m.read.Load(), Total: m.total.Load(), Files: m.files.Load()}
	if p := m.phase.Load(); p != nil {
		e.Phase = *p
	}
	if e.Phase == Fetching || e.Phase == Unpacking {
		e.Read, e.Total = m.came.Load(), m.coming.Load()
	}
	return e
}

// report calls tell with events until stop is called; then nothing is called any more.
func (m *meter) report(tell func(Event)) (stop func()) {
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

package dhcpserver

import (
	"net/netip"
	"sync"
)

// maxSaves bounds the leases that are on their way to the disk at once. Whoever comes
// when as many are waits for the disk, as all did that were heard after him.
const maxSaves = 256

// saves has leases written while others are heard: a disk takes the leases of a hundred
// boards in little more time than that of one, if it is given them together. Those of one
// address are written in the order in which they were decided.
type saves struct {
	slots chan struct{}

	mu   sync.Mutex
	last map[netip.Addr]chan struct{} // is closed when the latest one of an address is done
}

func newSaves() *saves {
	return &saves{slots: make(chan struct{}, maxSaves), last: map[netip.Addr]chan struct{}{}}
}

// do calls write in a goroutine that spawn begins, after what was to be written of the
// address before.
func (s *saves) do(addr netip.Addr, spawn func(func() error), write func()) {
	done := make(chan struct{})
	s.mu.Lock()
	before := s.last[addr]
	s.last[addr] = done
	s.mu.Unlock()
	inTurn := func() {
		if before != nil {
			<-before
		}
		defer func() {
			s.mu.Lock()
			if s.last[addr] == done {
				delete(s.last, addr)
			}
			s.mu.Unlock()
			close(done)
		}()
		write()
	}
	select {
	case s.slots <- struct{}{}:
		spawn(func() error {
			defer func() { <-s.slots }()
			inTurn()
			return nil
		})
	default:
		inTurn()
	}
}

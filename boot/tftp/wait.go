package tftp

import "time"

// limits bound how long a packet's answer is waited for before it is sent again.
type limits struct{ first, least, most time.Duration }

// waits works out how long to wait for a client's answer, from how long the
// answers before took (RFC 6298). The zero value has not seen any yet. Lock-step
// makes one measurement for each block, so it knows a client within a file.
type waits struct {
	// smooth and spread are the RFC's SRTT and RTTVAR; 0: nothing measured.
	smooth, spread time.Duration
	// wait is the RTO as it stands, doubled each time that it was too short.
	wait time.Duration
}

// next is how long to wait now.
func (w *waits) next(l limits) time.Duration {
	if w.wait == 0 {
		w.wait = l.first
	}
	return w.wait
}

// measured takes in the time of one answer. Only that of a packet which was
// sent once may be given: with two it is not known which one was answered
// (Karn's algorithm; RFC 6298, section 3). A doubled wait ends here, not before.
func (w *waits) measured(took time.Duration, l limits) {
	if w.smooth == 0 {
		w.smooth, w.spread = max(took, 1), took/2
	} else {
		w.spread += ((w.smooth - took).Abs() - w.spread) / 4
		w.smooth += (took - w.smooth) / 8
	}
	w.wait = min(max(w.smooth+4*w.spread, l.least), l.most)
}

// expired says that no answer came in time (RFC 6298, 5.5).
func (w *waits) expired(l limits) { w.wait = min(2*w.next(l), l.most) }

// settle forgets the doubling: the next file is asked for by a board that is there.
func (w *waits) settle(l limits) {
	if w.smooth > 0 {
		w.wait = min(max(w.smooth+4*w.spread, l.least), l.most)
	} else {
		w.wait = 0
	}
}

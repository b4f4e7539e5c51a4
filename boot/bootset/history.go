package bootset

import "time"

// Attempt is one boot as far as its set is concerned.
type Attempt struct {
	// ID is the boot's, as its kernel command line says it.
	ID    string    `json:"id"`
	Begun time.Time `json:"begun"`
	// Key is that of the set that was given out; "": none was kept.
	Key string `json:"key,omitempty"`
	// LastGood says that the set was that of the last good boot, instead of the
	// board's own.
	LastGood bool `json:"last_good,omitempty"`
	// Reports says that the root has the unit that reports the boot.
	Reports bool `json:"reports,omitempty"`
	// Loaded says that the board has read the whole kernel.
	Loaded bool `json:"loaded,omitempty"`
	// Good is when the boot was reported; zero: it was not.
	Good time.Time `json:"good,omitzero"`
	// Slot numbers the root that the boot was given.
	Slot int `json:"slot,omitempty"`
	// Ended says that the attempt was judged: another boot began.
	Ended bool `json:"ended,omitempty"`
}

// Failed says that the attempt, which is over, counts as a failed boot: its
// kernel ran and did not come to the point where it is reported. One whose root
// cannot report is neither good nor failed.
func (a Attempt) Failed() bool { return a.Loaded && a.Reports && a.Good.IsZero() }

// History is what is remembered of a board's boots. It is a value, and what
// follows from it is pure.
type History struct {
	Last Attempt `json:"last"`
	// FailedKey is the set with which the last boots failed, Failures how many
	// of them in a row.
	FailedKey string `json:"failed_key,omitempty"`
	Failures  int    `json:"failures,omitempty"`
}

// End judges the last attempt, which is over because another begins, once. It says
// whether it failed.
func (h *History) End() bool {
	a := h.Last
	if a.Ended {
		return false
	}
	h.Last.Ended = true
	if !a.Failed() {
		return false
	}
	if a.LastGood || a.Key == "" {
		return true // nothing is learned of the board's own files
	}
	if h.FailedKey != a.Key {
		h.FailedKey, h.Failures = a.Key, 0
	}
	h.Failures++
	return true
}

// Report takes the report of a boot. It says whether that is news, and about the
// last attempt.
func (h *History) Report(id string, now time.Time) bool {
	if id == "" || id != h.Last.ID || !h.Last.Good.IsZero() {
		return false
	}
	h.Last.Good = now
	if !h.Last.LastGood {
		h.FailedKey, h.Failures = "", 0
	}
	return true
}

// FallsBack says whether a board whose own files are the set of key gets those
// of its last good boot: they changed since, and after boots in a row failed with
// them; 0: never.
func (h *History) FallsBack(key, lastGood string, after int) bool {
	return after > 0 && key != "" && key == h.FailedKey && h.Failures >= after && lastGood != "" && lastGood != key
}

// History reads what is remembered; nothing when it cannot be read.
func (s *Store) History() (History, error) {
	var h History
	_, err := s.read(historyName, &h)
	return h, err
}

// Remember puts a history on disk.
func (s *Store) Remember(h History) error { return s.write(historyName, h) }

package attempt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rubus/boot/bootset"
)

// Failure is a boot that failed: another began before it was reported as good.
type Failure struct {
	// Boot is its id.
	Boot string
	// LastGood says that it had the files of the last good boot.
	LastGood bool
	// InARow counts the boots that failed with the board's own files.
	InARow int
}

// Text says it in a sentence.
func (f *Failure) Text() string {
	if f.InARow > 1 && !f.LastGood {
		return fmt.Sprintf("%d boots in a row were not reported as good", f.InARow)
	}
	return "the next boot began before this one was reported as good"
}

// End judges the last boot, which is over, once. It gives it when it failed; an error is
// that this cannot be written down.
func (b *Boots) End() (*Failure, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.history.Last
	if last.ID == "" || last.Ended {
		return nil, nil
	}
	failed := b.history.End()
	err := b.store.Remember(b.history)
	if !failed {
		return nil, err
	}
	return &Failure{Boot: last.ID, LastGood: last.LastGood, InARow: b.history.Failures}, err
}

// Seen is what is seen of a board on the root of its last boot.
type Seen struct {
	// Root is where the root is mounted on this host.
	Root string
	// Mounted is when the board mounted it, Calls how many it made since.
	Mounted time.Time
	Calls   uint64
	// Over says that the boot is over: it is looked at whatever was seen since the last look.
	Over bool
}

// How often a report is looked for: at every look after a MOUNT, later each
// minute; a board that made no call since the last look has written nothing.
const (
	reportSoon  = 15 * time.Minute
	reportLater = time.Minute
)

// Good is a boot that the board itself reported: it came up.
type Good struct {
	// Boot is its id, At when it was reported, After how long after it began.
	Boot  string
	At    time.Time
	After time.Duration
}

// Look takes the board's own word that its boot came up; nil: it said nothing new, or is
// not looked at again yet. An error is that this, or the boot's files, cannot be kept.
func (b *Boots) Look(s Seen) (*Good, error) {
	now := b.opt.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.history.Last
	if last.ID == "" || !last.Reports || !last.Good.IsZero() || s.Mounted.Before(last.Begun) {
		return nil, nil
	}
	if !s.Over && (s.Calls == b.looked || now.Sub(s.Mounted) > reportSoon && now.Sub(b.lookedAt) < reportLater) {
		return nil, nil
	}
	b.looked, b.lookedAt = s.Calls, now
	id, at := bootset.Reported(s.Root)
	if at.Before(s.Mounted) || at.After(now) {
		at = now
	}
	if !b.history.Report(id, at) {
		return nil, nil
	}
	var kept error
	if b.present != nil && !last.LastGood {
		if kept = b.store.MarkGood(b.present); kept != nil {
			kept = fmt.Errorf("the files of a good boot cannot be kept: %w", kept)
		}
	}
	good := &Good{Boot: id, At: at, After: at.Sub(last.Begun)}
	return good, errors.Join(kept, b.store.Remember(b.history))
}

// Fetched notes that the board has read a whole file: with its kernel a boot can fail. An
// error is that this cannot be written down.
func (b *Boots) Fetched(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	isKernel := func(k string) bool { return strings.EqualFold(k, name) }
	if b.now == nil || b.history.Last.Loaded || !slices.ContainsFunc(b.now.Kernels, isKernel) {
		return nil
	}
	b.history.Last.Loaded = true
	return b.store.Remember(b.history)
}

package attempt

import (
	"sync"
	"time"

	"rubus/boot/bootset"
)

// Options are the same for all boards.
type Options struct {
	// LayerDir is where a layer's tree is.
	LayerDir func(digest string) string
	// Insides remembers what is inside files; it may be nil.
	Insides *bootset.Cache
	// WarnOnly gives out boot files that cannot work together, too.
	WarnOnly bool
	// FallbackAfter is how many boots in a row must fail with changed boot files
	// until a board gets those of its last good boot; 0: never.
	FallbackAfter int
	// Started is when this process began. A boot that began before goes on, when it is not
	// older than Within.
	Started time.Time
	Within  time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Boots are the boots of one board, of which the last is remembered on disk. They may be
// used from many goroutines; a method may wait for one that works on the disk.
type Boots struct {
	opt   *Options
	store *bootset.Store

	mu      sync.Mutex
	history bootset.History
	// present is the set that the last boot was given; nil: none was kept.
	present *bootset.Set
	// now is the last boot, when it began or was resumed in this process.
	now *Boot
	// looked are the calls at the last look for a report, at lookedAt.
	looked   uint64
	lookedAt time.Time
}

// Open reads what a directory has of a board's boots. The directory is made when it is
// needed. With an error, what the boots came to cannot be read, and counts as none.
func Open(opt *Options, dir string) (*Boots, error) {
	b := &Boots{opt: opt, store: &bootset.Store{Dir: dir, LayerDir: opt.LayerDir, Now: opt.Now}}
	h, err := b.store.History()
	b.history = h
	// Without it a good boot is none to fall back to. The files of the last boot
	// may not be kept, those of an earlier one are not what it says is good.
	if now, err := b.store.Current(); err == nil && now != nil && now.Key == h.Last.Key {
		b.present = now
	}
	return b, err
}

// Last is the last boot as it is remembered; its ID is "" when there was none.
func (b *Boots) Last() bootset.Attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.history.Last
}

// Status is what is known of a board's last boot and its files.
type Status struct {
	// ID is the boot's; "" when there was none.
	ID string
	// LastGood says that its files were those of the last good boot, because of
	// Why; with LastGood false Why is the reason for which none were given out.
	LastGood bool
	Why      string
	// Kernels and Releases are of the files that were given out.
	Kernels, Releases []string
	// Reports says that the image has the unit which reports a boot, Good when
	// it did.
	Reports bool
	Good    time.Time
	// Failures counts the boots in a row that failed with the board's own files.
	Failures int
	Warnings []string
}

// Status is the status of the last boot.
func (b *Boots) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.history
	s := Status{ID: h.Last.ID, LastGood: h.Last.LastGood, Reports: h.Last.Reports, Good: h.Last.Good, Failures: h.Failures}
	if now := b.now; now != nil {
		s.Kernels, s.Releases, s.Warnings = now.Kernels, now.Releases, now.Warnings
		if !now.resumed {
			s.Why = now.Why
		}
	}
	return s
}

// Forget drops the kept boot files and what the boots came to: they were of writes that
// are deleted. What cannot be removed is an error, and forgotten all the same.
func (b *Boots) Forget() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.history, b.present, b.now = bootset.History{}, nil, nil
	return b.store.Forget()
}

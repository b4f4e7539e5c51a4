package flight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"rubus/config/device"
)

// Recorder keeps the timelines of all boards. Make one with New; Note may be
// called from any goroutine, and what it is given is written by Run.
type Recorder struct {
	store *store
	log   *slog.Logger
	queue chan noted
	// dropped counts what the full queue had no place for.
	dropped atomic.Int64

	states map[device.Serial]*state // Run's alone
	// reading keeps files from being removed while they are read.
	reading sync.RWMutex
}

type noted struct {
	serial device.Serial
	event  Event
}

// queueLen is how many events may wait for the disk.
const queueLen = 4096

// maxStates bounds the boards whose latest boot is remembered; others are read
// from disk again.
const maxStates = 4096

// New makes a Recorder that keeps boots below dir.
func New(dir string, l Limits, log *slog.Logger) (*Recorder, error) {
	s, err := openStore(dir, l)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Recorder{store: s, log: log, queue: make(chan noted, queueLen), states: map[device.Serial]*state{}}, nil
}

// Note records an event of a board. It does not block: with a disk that hangs,
// events are dropped and counted. Only boards that may boot are to be noted:
// what a stranger sends must not fill the disk.
func (r *Recorder) Note(serial device.Serial, e Event) {
	if serial.IsZero() {
		return
	}
	e.clean()
	select {
	case r.queue <- noted{serial, e}:
	default:
		r.dropped.Add(1)
	}
}

// Run writes until ctx ends, and then what is queued.
func (r *Recorder) Run(ctx context.Context) error {
	troubled := false
	take := func(n noted) {
		err := r.write(n.serial, n.event)
		if err != nil && !troubled { // once; a full disk fails for every event
			r.log.Warn("boots are not recorded", "err", err)
		}
		troubled = err != nil
	}
	for {
		select {
		case n := <-r.queue:
			take(n)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case n := <-r.queue:
				take(n)
			default:
				return nil
			}
		}
	}
}

// write puts one event on disk.
func (r *Recorder) write(serial device.Serial, e Event) error {
	st := r.states[serial]
	if st == nil {
		st = r.store.latest(serial)
	}
	if st.begins(e) {
		next := &state{n: 1, last: e.Time}
		if st != nil {
			next.n = st.n + 1
			next.before.n, next.before.boot = st.n, st.boot
		}
		r.reading.Lock()
		err := r.store.create(Timeline{Serial: serial, N: next.n, Begin: e.Time})
		r.reading.Unlock()
		if err != nil {
			return err
		}
		st = next
	}
	if st == nil {
		return nil // of no boot that was seen
	}
	if st.settled && (e.Kind == Heard || e.Kind == Offered || e.Kind == Requested) {
		return nil // the system renews its lease
	}
	if len(r.states) >= maxStates && r.states[serial] == nil {
		clear(r.states)
	}
	r.states[serial] = st
	if (e.Kind == Good || e.Kind == Failed) && e.Boot != "" && e.Boot == st.before.boot && e.Boot != st.boot {
		_, err := r.store.append(serial, st.before.n, e)
		return err
	}
	st.note(e)
	if st.full(e, r.store.limits) {
		st.lost++
		return nil
	}
	if n := st.lost + int(r.dropped.Swap(0)); n > 0 {
		st.lost = 0
		if err := r.put(serial, st, Event{Time: e.Time, Kind: Lost, Count: n}); err != nil {
			return err
		}
	}
	return r.put(serial, st, e)
}

func (r *Recorder) put(serial device.Serial, st *state, e Event) error {
	n, err := r.store.append(serial, st.n, e)
	st.events++
	st.bytes += n
	return err
}

// ErrNoBoot says that a boot is not recorded.
var ErrNoBoot = errors.New("no such boot is recorded")

// Summary is one boot at a glance.
type Summary struct {
	N       int       `json:"n"`
	Begin   time.Time `json:"begin"`
	Verdict Verdict   `json:"verdict"`
}

// Boots lists the recorded boots of a board, the oldest first.
func (r *Recorder) Boots(serial device.Serial, now time.Time) ([]Summary, error) {
	r.reading.RLock()
	defer r.reading.RUnlock()
	numbers, err := r.store.numbers(serial)
	if err != nil {
		return nil, err
	}
	out := make([]Summary, 0, len(numbers))
	for i, n := range numbers {
		t, err := r.store.read(serial, n)
		if err != nil {
			return nil, err
		}
		t.Over = i+1 < len(numbers)
		out = append(out, Summary{n, t.Begin, Judge(t, now)})
	}
	return out, nil
}

// Timeline gives a boot of a board by its number; 0 is the latest, -1 the one
// before it. The error wraps ErrNoBoot when it is not kept.
func (r *Recorder) Timeline(serial device.Serial, n int) (Timeline, error) {
	r.reading.RLock()
	defer r.reading.RUnlock()
	numbers, err := r.store.numbers(serial)
	if err != nil {
		return Timeline{}, err
	}
	for i, have := range numbers {
		if have != n && (n > 0 || i != len(numbers)-1+n) {
			continue
		}
		t, err := r.store.read(serial, have)
		t.Over = i+1 < len(numbers)
		return t, err
	}
	if len(numbers) == 0 {
		return Timeline{}, fmt.Errorf("board %s: %w: it was not heard of", serial, ErrNoBoot)
	}
	return Timeline{}, fmt.Errorf("board %s: %w: there are %d to %d", serial, ErrNoBoot, numbers[0], numbers[len(numbers)-1])
}

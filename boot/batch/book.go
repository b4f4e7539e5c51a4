package batch

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"rubus/config/device"
)

// keepBatches is how many batches that are over are remembered.
const keepBatches = 100

// Book is the batches of a state directory. Its lock may be held over the disk, and no
// other is taken under it but for moments.
type Book struct {
	mu    sync.Mutex
	store Store
	all   []Batch // the oldest first
	// begun are those whose boards are being moved by whoever asked for it.
	begun map[int]bool
}

// NewBook makes the book of a state directory. It reads nothing yet.
func NewBook(state string) *Book {
	return &Book{store: Store{Dir: filepath.Join(state, "batches")}, begun: map[int]bool{}}
}

// Load reads the batches of an earlier daemon.
func (s *Book) Load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.store.Load()
	s.all = all
	return err
}

// List is a copy of all batches.
func (s *Book) List() []Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Batch, 0, len(s.all))
	for _, b := range s.all {
		out = append(out, b.Clone())
	}
	return out
}

// Add makes the next batch, which is begun.
func (s *Book) Add(make func(n int) Batch) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.store.Next()
	if err != nil {
		return Batch{}, err
	}
	b := make(n)
	if err := s.store.Save(b); err != nil {
		return b, err
	}
	s.all = append(s.all, b)
	s.begun[n] = true
	return b.Clone(), s.forget()
}

// forget removes the oldest of those that are over. The lock is held.
func (s *Book) forget() error {
	over := 0
	for i := len(s.all) - 1; i >= 0; i-- {
		if !s.all[i].IsOver() {
			continue
		}
		if over++; over <= keepBatches {
			continue
		}
		if err := s.store.Remove(s.all[i].N); err != nil {
			return err
		}
		s.all = slices.Delete(s.all, i, i+1)
	}
	return nil
}

// Change changes a batch, on disk first, if do says that it did. The error wraps
// fs.ErrNotExist when there is no such batch.
func (s *Book) Change(n int, do func(*Batch) bool) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].N != n {
			continue
		}
		b := s.all[i].Clone()
		if !do(&b) {
			return b, nil
		}
		if err := s.store.Save(b); err != nil {
			return b, err
		}
		s.all[i] = b
		return b.Clone(), nil
	}
	return Batch{}, fmt.Errorf("batch %d: %w", n, fs.ErrNotExist)
}

// Turn lists the boards of a batch whose turn it is.
func (s *Book) Turn(n int) []device.Serial {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].N == n {
			return s.all[i].Turn()
		}
	}
	return nil
}

// IsDropped says whether a board of a batch is not to move any more.
func (s *Book) IsDropped(n int, serial device.Serial) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.all {
		if s.all[i].N == n {
			m := s.all[i].Member(serial)
			return m != nil && m.State == Dropped
		}
	}
	return false
}

// IsBegun says that whoever asked for a batch moves its boards now.
func (s *Book) IsBegun(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun[n]
}

// End says that he does not any more.
func (s *Book) End(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.begun, n)
}

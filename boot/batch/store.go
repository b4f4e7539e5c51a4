package batch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// maxRecord bounds what is read of one batch, in bytes.
const maxRecord = 16 << 20

// Store keeps batches, each in a file of its own below Dir, which is made when it is needed.
// It is for one goroutine at a time.
type Store struct{ Dir string }

func (s Store) path(n int) string { return filepath.Join(s.Dir, strconv.Itoa(n)+".json") }

// Load reads all batches, the oldest first. Those that cannot be read are named by the error,
// and left alone.
func (s Store) Load() ([]Batch, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the batches: %w", err)
	}
	var out []Batch
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		n, err := strconv.Atoi(name)
		if !ok || err != nil || n < 1 || strconv.Itoa(n) != name {
			continue // half written
		}
		b, err := s.read(n)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading batch %d: %w", n, err))
			continue
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b Batch) int { return a.N - b.N })
	return out, errors.Join(errs...)
}

// Next is the number of the next batch: that of no other, one that cannot be read counts too.
func (s Store) Next() (int, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("reading the batches: %w", err)
	}
	last := 0
	for _, e := range entries {
		name, _ := strings.CutSuffix(e.Name(), ".json")
		if n, err := strconv.Atoi(name); err == nil {
			last = max(last, n)
		}
	}
	return last + 1, nil
}

func (s Store) read(n int) (b Batch, err error) {
	fi, err := os.Stat(s.path(n))
	if err != nil {
		return b, err
	}
	if fi.Size() > maxRecord {
		return b, fmt.Errorf("it is larger than %d bytes", maxRecord)
	}
	text, err := os.ReadFile(s.path(n))
	if err != nil {
		return b, err
	}
	return decode(text, n)
}

// decode reads what Save wrote of batch n.
func decode(text []byte, n int) (b Batch, err error) {
	if err := json.Unmarshal(text, &b); err != nil {
		return b, err
	}
	known := []State{Canaries, Released, Stopped, Done, Undone}
	switch {
	case b.N != n:
		return b, fmt.Errorf("it is that of batch %d", b.N)
	case !slices.Contains(known, b.State):
		return b, fmt.Errorf("it has the unknown state %q", b.State)
	case b.First < 0 || b.First > len(b.Members):
		return b, fmt.Errorf("%d of its %d members are canaries", b.First, len(b.Members))
	case b.To.Version == 0:
		return b, errors.New("it is to no version of an image")
	}
	for i, m := range b.Members {
		if m.Serial.IsZero() || b.Member(m.Serial) != &b.Members[i] {
			return b, fmt.Errorf("member %d has no serial of its own", i+1)
		}
	}
	return b, nil
}

// Save puts a batch on disk: whole, and before it returns.
func (s Store) Save(b Batch) error {
	if err := s.save(b); err != nil {
		return fmt.Errorf("writing batch %d: %w", b.N, err)
	}
	return nil
}

func (s Store) save(b Batch) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(s.path(b.N), append(text, '\n'), 0o600); err != nil {
		return err
	}
	d, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Remove removes a batch.
func (s Store) Remove(n int) error {
	if err := os.Remove(s.path(n)); err != nil {
		return fmt.Errorf("removing batch %d: %w", n, err)
	}
	return nil
}

package flight

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rubus/config/device"
)

// Limits bound what is kept on disk. The zero value of each is a default.
type Limits struct {
	// Boots of one board, 20 by default; the oldest go.
	Boots int
	// Events of one boot, 1,000 by default, and a few vital ones more.
	Events int
	// BootBytes of one boot, 512 KiB by default.
	BootBytes int64
	// TotalBytes of all boards, 128 MiB by default; the boots that were written
	// to least recently go.
	TotalBytes int64
}

func (l Limits) withDefaults() Limits {
	l.Boots = cmp.Or(l.Boots, 20)
	l.Events = cmp.Or(l.Events, 1000)
	l.BootBytes = cmp.Or(l.BootBytes, 512<<10)
	l.TotalBytes = cmp.Or(l.TotalBytes, 128<<20)
	return l
}

// vitalMore is how many vital events are kept beyond Limits.Events.
const vitalMore = 64

// maxLine is the longest line that is written or read, in bytes.
const maxLine = 16 << 10

// store is the directory with one directory for each board and in it one file
// for each boot. Its methods are for one goroutine, but for those that only read.
type store struct {
	dir    string
	limits Limits
	total  int64 // cost of all files, as far as this process knows
}

func openStore(dir string, l Limits) (*store, error) {
	s := &store{dir: dir, limits: l.withDefaults()}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of boot records: %w", err)
	}
	files, err := s.all()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		s.total += f.size
	}
	return s, nil
}

func (s *store) board(serial device.Serial) string { return filepath.Join(s.dir, serial.String()) }

func (s *store) path(serial device.Serial, n int) string {
	return filepath.Join(s.board(serial), strconv.Itoa(n)+".jsonl")
}

// numbers lists the boots of a board that are kept, the oldest first.
func (s *store) numbers(serial device.Serial) ([]int, error) {
	entries, err := os.ReadDir(s.board(serial))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the boots of board %s: %w", serial, err)
	}
	var out []int
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".jsonl"); ok {
			if n, err := strconv.Atoi(name); err == nil && n > 0 && strconv.Itoa(n) == name {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// create begins a boot's file and makes room for it.
func (s *store) create(t Timeline) error {
	if err := os.MkdirAll(s.board(t.Serial), 0o700); err != nil {
		return fmt.Errorf("recording a boot: %w", err)
	}
	numbers, err := s.numbers(t.Serial)
	if err != nil {
		return err
	}
	for len(numbers) >= s.limits.Boots {
		s.remove(s.path(t.Serial, numbers[0]))
		numbers = numbers[1:]
	}
	if s.total+s.limits.BootBytes > s.limits.TotalBytes {
		if err := s.makeRoom(); err != nil {
			return err
		}
	}
	t.Events = nil
	if _, err = s.append(t.Serial, t.N, t); err != nil {
		// Nothing of it may be left, on a disk that is full: it would count as a
		// boot, and push out those that say something.
		s.remove(s.path(t.Serial, t.N))
	}
	return err
}

// append writes one line and gives its length.
func (s *store) append(serial device.Serial, n int, v any) (int64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("recording a boot: %w", err)
	}
	f, err := os.OpenFile(s.path(serial, n), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("recording a boot: %w", err)
	}
	// The newline first ends a line that a crash tore.
	line := append(append([]byte{'\n'}, b...), '\n')
	before, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	wrote, err := f.Write(line)
	s.total += cost(before+int64(wrote)) - cost(before)
	return int64(wrote), errors.Join(err, f.Close())
}

// cost is what a file of some bytes takes of a disk: whole blocks. Most boots that
// strangers make up are short.
func cost(size int64) int64 {
	const block = 4096
	return (size + block - 1) / block * block
}

// kept is one boot's file.
type kept struct {
	path string
	size int64 // cost
	mod  time.Time
}

func (s *store) all() ([]kept, error) {
	boards, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("listing the boot records: %w", err)
	}
	var out []kept
	for _, b := range boards {
		if _, err := device.ParseSerial(b.Name()); err != nil || !b.IsDir() {
			continue
		}
		entries, _ := os.ReadDir(filepath.Join(s.dir, b.Name())) // gone meanwhile: nothing to count
		for _, e := range entries {
			if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
				out = append(out, kept{filepath.Join(s.dir, b.Name(), e.Name()), cost(fi.Size()), fi.ModTime()})
			}
		}
	}
	return out, nil
}

// makeRoom removes the files that were written to least recently, until a
// quarter of the room is free.
func (s *store) makeRoom() error {
	files, err := s.all()
	if err != nil {
		return err
	}
	s.total = 0
	for _, f := range files {
		s.total += f.size
	}
	slices.SortFunc(files, func(a, b kept) int { return a.mod.Compare(b.mod) })
	for _, f := range files {
		if s.total+s.limits.BootBytes <= s.limits.TotalBytes*3/4 {
			break
		}
		s.remove(f.path)
		_ = os.Remove(filepath.Dir(f.path)) // rmdir takes only an empty one
	}
	return nil
}

func (s *store) remove(path string) {
	if fi, err := os.Stat(path); err == nil {
		s.total -= cost(fi.Size())
	}
	_ = os.Remove(path) // found again, and removed, the next time
}

// read gives a boot as it is on disk. Lines that are torn are skipped.
func (s *store) read(serial device.Serial, n int) (Timeline, error) {
	t := Timeline{Serial: serial, N: n, Events: []Event{}}
	f, err := os.Open(s.path(serial, n))
	if err != nil {
		return t, fmt.Errorf("boot %d of board %s: %w", n, serial, err)
	}
	defer f.Close()
	if err := t.decode(f, s.limits.BootBytes); err != nil {
		return t, fmt.Errorf("boot %d of board %s: %w", n, serial, err)
	}
	return t, nil
}

// decode reads the lines of a boot's file.
func (t *Timeline) decode(in io.Reader, limit int64) error {
	r := bufio.NewReaderSize(io.LimitReader(in, limit+vitalMore*maxLine), maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) { // none of ours: passed over
				_, err = r.ReadSlice('\n')
			}
			line = nil
		}
		t.line(bytes.TrimSpace(line))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if t.Begin.IsZero() && len(t.Events) > 0 {
		t.Begin = t.Events[0].Time // the first line was torn
	}
	return nil
}

// line takes one line: the boot's own, or an event.
func (t *Timeline) line(b []byte) {
	if len(b) == 0 {
		return
	}
	var l struct {
		Begin time.Time `json:"begin"`
		Event
	}
	if json.Unmarshal(b, &l) != nil {
		return
	}
	if l.Kind == "" {
		if t.Begin.IsZero() {
			t.Begin = l.Begin
		}
		return
	}
	l.clean()
	t.Events = append(t.Events, l.Event)
}

// latest is the newest boot of a board, with what the recorder remembers of it.
func (s *store) latest(serial device.Serial) *state {
	numbers, err := s.numbers(serial)
	if err != nil || len(numbers) == 0 {
		return nil
	}
	n := numbers[len(numbers)-1]
	st := &state{n: n}
	t, err := s.read(serial, n)
	if err != nil {
		st.ended = true
		return st
	}
	st.last = t.Begin
	for _, e := range t.Events {
		st.note(e)
	}
	st.events = len(t.Events)
	if fi, err := os.Stat(s.path(serial, n)); err == nil {
		st.bytes = fi.Size()
	}
	if len(numbers) > 1 {
		st.before.n = numbers[len(numbers)-2]
		if t, err := s.read(serial, st.before.n); err == nil {
			for _, e := range t.Events {
				if e.Kind == Prepared {
					st.before.boot = e.Boot
				}
			}
		}
	}
	return st
}

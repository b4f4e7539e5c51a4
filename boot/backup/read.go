package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/archive"
	"rubus/images/imageref"
	"rubus/images/upper"
	"rubus/overlay"
)

// ReadOptions say what is wanted of backups.
type ReadOptions struct {
	// State is the state directory, Store its images.
	State string
	Store *images.Store
	// Reserve is the space in bytes that what is read leaves free of the state directory's disk.
	Reserve int64
	// Boards are those wanted; nil: all.
	Boards []device.Serial
	// NoSnapshots leaves out what was kept of boards.
	NoSnapshots bool
	// Progress, when not nil, is told how far a phase is.
	Progress func(phase string, s upper.Size)
}

// Staged is what was read: it lies beside the boards, and is nobody's yet.
type Staged struct {
	// Head is that of the last backup.
	Head archive.Head
	// Boards are what can be brought back, by serial.
	Boards []StagedBoard
	// Config are the files of the configuration, by name.
	Config map[string][]byte

	o      ReadOptions
	dir    string // devices/.restore-ID
	lock   *os.File
	images []byte
	state  string // where the state directory's own files lie; "": nowhere
	boards map[device.Serial]*unpacked
}

// StagedBoard is a board of a backup.
type StagedBoard struct {
	Serial device.Serial `json:"serial"`
	// Image is the version under its root, as it is called here.
	Image     imageref.Ref `json:"image,omitzero"`
	Roots     int          `json:"roots"`
	Snapshots int          `json:"snapshots"`
	Bytes     int64        `json:"bytes"`
	Files     int64        `json:"files"`
	// Stale is why the last backup has nothing of it, so that this is of one before.
	Stale string `json:"stale,omitempty"`
	// Problem is why it cannot be brought back.
	Problem string `json:"problem,omitempty"`
}

// unpacked is a board whose parts lie in the stage.
type unpacked struct {
	packed Packed
	sizes  map[string]upper.Size // by part
	stale  string
}

// reader reads a chain of backups.
type reader struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call
	o      ReadOptions
	s      *Staged
	n      int                         // of the backup at hand, from 1
	before map[device.Serial]*unpacked // what the backup before has
	now    map[device.Serial]*unpacked
}

// stagePrefix begins the name of a stage.
const stagePrefix = ".restore-"

// Read reads a backup, and those that go on from it, in their order, into a stage below
// the state directory. They are not trusted. The caller closes what it gets.
func Read(ctx context.Context, in []io.Reader, o ReadOptions) (s *Staged, err error) {
	if s, err = newStage(ctx, o); err != nil {
		return nil, fmt.Errorf("reading a backup: %w", err)
	}
	r := &reader{ctx: ctx, o: o, s: s, now: map[device.Serial]*unpacked{}}
	for _, f := range in {
		if err := r.read(f); err != nil {
			return nil, fmt.Errorf("reading a backup: %w", errors.Join(err, s.Close()))
		}
	}
	s.boards = r.now
	if err := s.plan(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newStage makes the directory of a stage, and removes those of processes that were killed.
func newStage(ctx context.Context, o ReadOptions) (*Staged, error) {
	devices := filepath.Join(o.State, "devices")
	if err := os.MkdirAll(devices, 0o700); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(devices)
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		if !strings.HasPrefix(e.Name(), stagePrefix) {
			continue
		}
		if f, err := lockStage(filepath.Join(devices, e.Name())); err == nil {
			err = removeStage(ctx, devices, e.Name())
			f.Close()
			if err != nil {
				return nil, err
			}
		}
	}
	s := &Staged{o: o, dir: filepath.Join(devices, stagePrefix+archive.NewID()), Config: map[string][]byte{}}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	if s.lock, err = lockStage(s.dir); err != nil {
		return nil, err
	}
	return s, nil
}

func lockStage(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeStage removes a directory with all below, and nothing of another mount.
func removeStage(ctx context.Context, parent, name string) error {
	u := overlay.Uppers{Dir: parent}
	if err := os.Rename(filepath.Join(parent, name), filepath.Join(parent, ".trash-"+strings.TrimLeft(name, "."))); err != nil {
		return err
	}
	return u.Sweep(ctx)
}

// Close removes what was not brought back.
func (s *Staged) Close() error {
	if s.lock == nil {
		return nil
	}
	err := removeStage(context.Background(), filepath.Dir(s.dir), filepath.Base(s.dir))
	s.lock.Close()
	s.lock = nil
	return err
}

func (r *reader) telling(phase string) func(upper.Size) {
	if r.o.Progress == nil {
		return nil
	}
	return func(s upper.Size) { r.o.Progress(phase, s) }
}

func (r *reader) wants(s device.Serial) bool {
	return r.o.Boards == nil || slices.Contains(r.o.Boards, s)
}

// at is where the backup number n has something.
func (r *reader) at(n int, parts ...string) string {
	return filepath.Join(append([]string{r.s.dir, strconv.Itoa(n)}, parts...)...)
}

// read reads the next backup of the chain.
func (r *reader) read(in io.Reader) error {
	a, err := archive.NewReader(in)
	if err != nil {
		return err
	}
	a.Room = func(bytes int64) error { return writes.Fits(r.o.State, r.o.Reserve, bytes, false) }
	last := r.s.Head
	switch {
	case a.Head.Since == "" && last.ID != "":
		return fmt.Errorf("the backup of %s goes on from none: give it alone, or first", a.Head.Made.Local().Format(timeForm))
	case a.Head.Since != last.ID && last.ID == "":
		return fmt.Errorf("the backup of %s goes on from another one, %s: give that first", a.Head.Made.Local().Format(timeForm), a.Head.Since)
	case a.Head.Since != last.ID:
		return fmt.Errorf("the backup of %s goes on from %s, and not from the one before it, of %s", a.Head.Made.Local().Format(timeForm), a.Head.Since, last.Made.Local().Format(timeForm))
	}
	r.s.Head, r.s.Config, r.s.state = a.Head, map[string][]byte{}, ""
	r.n, r.before, r.now = r.n+1, r.now, map[device.Serial]*unpacked{}
	if err := os.Mkdir(r.at(r.n), 0o700); err != nil {
		return err
	}
	for {
		m, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.member(a, m)
		}
		if err != nil {
			return err
		}
	}
	if r.n == 1 {
		return nil
	}
	return removeStage(r.ctx, r.s.dir, strconv.Itoa(r.n-1))
}

const timeForm = "2006-01-02 15:04:05"

func (r *reader) member(a *archive.Reader, m archive.Member) error {
	if rest, ok := strings.CutPrefix(m.Name, boardsDir); ok {
		its, part, _ := strings.Cut(rest, "/")
		serial, err := device.ParseSerial(its)
		if err != nil || serial.String() != its || part == "" || strings.Contains(part, "/") {
			return fmt.Errorf("member %.200q: %w", m.Name, upper.ErrHostile)
		}
		if !r.wants(serial) {
			return nil
		}
		return r.board(a, m, serial, part)
	}
	switch {
	case m.Name == imagesDoc:
		r.s.images = m.Document
	case strings.HasPrefix(m.Name, layersTree) && m.IsTree:
		return r.layer(a, m)
	case strings.HasPrefix(m.Name, configDir) && !m.IsTree:
		r.s.Config[strings.TrimPrefix(m.Name, configDir)] = m.Document
	case m.Name == stateTree && m.IsTree:
		r.s.state = r.at(r.n, stateTree)
		_, err := r.tree(a, m, "")
		return err
	}
	return nil // a later rubus may say more
}

// board takes one member of a board.
func (r *reader) board(a *archive.Reader, m archive.Member, serial device.Serial, part string) error {
	if part == failedDoc {
		return r.stale(serial, m.Document)
	}
	if part == boardDoc {
		u := &unpacked{sizes: map[string]upper.Size{}}
		if err := json.Unmarshal(m.Document, &u.packed); err != nil || u.packed.Serial != serial || r.now[serial] != nil {
			return fmt.Errorf("member %q: %w: %w", m.Name, archive.ErrBroken, errors.Join(err, upper.ErrHostile))
		}
		r.now[serial] = u
		return os.MkdirAll(r.at(r.n, serial.String()), 0o700)
	}
	u := r.now[serial]
	if u == nil || !m.IsTree {
		return fmt.Errorf("member %.200q comes before its board: %w", m.Name, archive.ErrBroken)
	}
	if _, twice := u.sizes[part]; twice {
		return fmt.Errorf("member %.200q is there twice: %w", m.Name, archive.ErrBroken)
	}
	if r.o.NoSnapshots && strings.HasPrefix(part, "snapshot-") {
		return nil
	}
	size, err := r.tree(a, m, serial.String())
	if err != nil {
		return err
	}
	if b := r.before[serial]; m.Same && b != nil {
		size = b.sizes[part]
	}
	u.sizes[part] = size
	return nil
}

// tree makes a tree in the stage, of what the backup before has where it is as it was.
func (r *reader) tree(a *archive.Reader, m archive.Member, dir string) (upper.Size, error) {
	name := filepath.Base(m.Name)
	to, before := r.at(r.n, dir, name), r.at(r.n-1, dir, name)
	if _, err := os.Lstat(before); err != nil {
		before = ""
	}
	if m.Same {
		if before == "" {
			return upper.Size{}, fmt.Errorf("%q is as in a backup that has it not: %w", m.Name, archive.ErrBroken)
		}
		return upper.Size{}, os.Rename(before, to)
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return upper.Size{}, err
	}
	return a.Extract(r.ctx, to, before, r.telling("reading "+dir))
}

// stale keeps what the backup before has of a board that this one has nothing of.
func (r *reader) stale(serial device.Serial, doc []byte) error {
	var f failed
	_ = json.Unmarshal(doc, &f)
	u := r.before[serial]
	if u == nil {
		u = &unpacked{packed: Packed{Serial: serial}}
	} else if err := os.Rename(r.at(r.n-1, serial.String()), r.at(r.n, serial.String())); err != nil {
		return err
	}
	u.stale = f.Error
	r.now[serial] = u
	return nil
}

// plan says of each board what can be done.
func (s *Staged) plan() error {
	find, err := s.find()
	if err != nil {
		return err
	}
	for _, serial := range slices.SortedFunc(maps.Keys(s.boards), device.Serial.Compare) {
		u := s.boards[serial]
		if s.o.NoSnapshots {
			u.packed.Snapshots = nil
		}
		b := StagedBoard{Serial: serial, Stale: u.stale}
		for _, size := range u.sizes {
			b.Bytes, b.Files = b.Bytes+size.Bytes, b.Files+size.Files
		}
		if err := s.check(u, &b, find); err != nil {
			b.Problem = err.Error()
		}
		s.Boards = append(s.Boards, b)
	}
	return nil
}

func (s *Staged) check(u *unpacked, b *StagedBoard, find Find) error {
	if u.packed.Record == nil {
		return fmt.Errorf("the backup has nothing of it: %s", u.stale)
	}
	bound, err := Bind(u.packed, s.o.Store, find)
	if err != nil {
		return err
	}
	b.Image, b.Roots, b.Snapshots = bound.Summary()
	for _, p := range bound.Parts() {
		if _, ok := u.sizes[p]; !ok {
			return fmt.Errorf("%q of it is not there: %w", p, archive.ErrBroken)
		}
	}
	return nil
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"rubus/boot/record"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/archive"
	"rubus/images/upper"
)

// Options say what to back up.
type Options struct {
	// State is the state directory, Store its images.
	State string
	Store *images.Store
	// Hold keeps what a board wrote as it is until release is called, or held ends; an error of
	// release says that it was not kept for so long. One that wraps writes.ErrBoots is tried again.
	Hold func(ctx context.Context, serial device.Serial) (held context.Context, release func() error, err error)
	// Again is how long to wait then; 0: 15 s.
	Again time.Duration
	Head  archive.Head
	// Since, when not nil, reads the backup that this one goes on from.
	Since *archive.Reader
	// Reserve is the space in bytes that what is copied leaves free of the state directory's disk.
	Reserve int64
	// Boards are those wanted, in any order; nil: all there are.
	Boards []device.Serial
	// Config names files to be taken, by their name in the backup; one that is not there is left out.
	Config map[string]string
	// Whole takes what the state directory has beside boards and images, too.
	Whole bool
	// Images takes the versions and layers.
	Images bool
	// Progress, when not nil, is told how far a phase is.
	Progress func(phase string, s upper.Size)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Board is what was done about one board.
type Board struct {
	Serial device.Serial `json:"serial"`
	Bytes  int64         `json:"bytes"`
	Files  int64         `json:"files"`
	// Snapshots counts them; those that were as in the backup before cost nothing.
	Snapshots int `json:"snapshots"`
	// Held is for how long the writes of the board were held.
	Held time.Duration `json:"held_ns"`
	// Failed is why there is nothing of it in the backup.
	Failed string `json:"failed,omitempty"`
}

// Report is what a backup has.
type Report struct {
	ID     string  `json:"id"`
	Since  string  `json:"since,omitempty"`
	Boards []Board `json:"boards"`
	// Bytes and Files are what is new since the backup before.
	Bytes int64 `json:"bytes"`
	Files int64 `json:"files"`
}

// Names of members.
const (
	boardsDir  = "boards/"
	boardDoc   = "board.json"
	failedDoc  = "failed.json"
	configDir  = "config/"
	stateTree  = "state"
	imagesDoc  = "images.json"
	layersTree = "layers/"
)

// notState are names in the state directory that a backup has otherwise, or that are this
// machine's alone.
func notState() []string { return []string{"devices", "images", "roots", "lock", "config"} }

type failed struct {
	Error string `json:"error"`
}

// Write writes a backup. Of a board that cannot be read the report says so, and the others
// are written; an error is that of the stream, which is of no use then. Boards are
// held one after the other, for as long as it takes to look at them and to copy what is new.
func Write(ctx context.Context, out io.Writer, o Options) (Report, error) {
	w := &writer{ctx: ctx, o: o, report: Report{ID: o.Head.ID, Boards: []Board{}}}
	if w.o.Now == nil {
		w.o.Now = time.Now
	}
	if w.o.Again == 0 {
		w.o.Again = 15 * time.Second
	}
	if w.o.Progress == nil {
		w.o.Progress = func(string, upper.Size) {}
	}
	if o.Since != nil {
		w.o.Head.Since = o.Since.Head.ID
		w.report.Since = o.Since.Head.ID
		w.since = &since{r: o.Since}
	}
	if err := w.run(out); err != nil {
		return w.report, fmt.Errorf("writing a backup: %w", err)
	}
	return w.report, nil
}

type writer struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call
	o      Options
	tar    *archive.Writer
	since  *since // nil: all is new
	report Report
}

func (w *writer) run(out io.Writer) (err error) {
	// The image store is not held: what boards stand on cannot go, and imports must not
	// wait for a slow disk. A version that is removed while it is read is an error.
	serials := slices.Clone(w.o.Boards)
	if serials == nil {
		if serials, err = record.Serials(w.o.State); err != nil {
			return err
		}
	}
	slices.SortFunc(serials, device.Serial.Compare)
	if w.tar, err = archive.NewWriter(out, w.o.Head); err != nil {
		return err
	}
	w.tar.Progress = func(s upper.Size) { w.o.Progress("writing", s) }
	if w.o.Images {
		if err := w.images(); err != nil {
			return err
		}
	}
	if err := w.config(); err != nil {
		return err
	}
	if w.o.Whole {
		if err := w.state(); err != nil {
			return err
		}
	}
	for _, s := range slices.Compact(serials) {
		if err := w.board(s); err != nil {
			return fmt.Errorf("board %s: %w", s, err)
		}
	}
	size := w.tar.Size()
	w.report.Bytes, w.report.Files = size.Bytes, size.Files
	return w.tar.Close()
}

func (w *writer) config() error {
	for _, name := range slices.Sorted(maps.Keys(w.o.Config)) {
		b, err := os.ReadFile(w.o.Config[name])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := w.tar.Bytes(configDir+name, b); err != nil {
			return err
		}
	}
	return nil
}

// state writes what the daemon keeps for itself: its key, leases, records of boots.
func (w *writer) state() error {
	old, err := w.old(stateTree, stateTree)
	if err != nil {
		return err
	}
	k, err := w.takePlain(w.ctx, Part{Name: stateTree, ID: stateTree, Dir: w.o.State, Skip: notState()}, old)
	if err != nil {
		return err
	}
	defer k.Close()
	return w.tar.Tree(w.ctx, stateTree, k)
}

// old is what the backup before has of a member that is no board's, or nothing.
func (w *writer) old(name, id string) (archive.List, error) {
	if w.since == nil {
		return archive.List{}, nil
	}
	l, err := w.since.find(name)
	if err != nil || l == nil || l.id != id {
		return archive.List{}, err
	}
	return l.list, nil
}

// board writes one board; an error is that of the stream.
func (w *writer) board(serial device.Serial) error {
	report := Board{Serial: serial}
	olds := map[string]*oldPart{}
	var err error
	if w.since != nil {
		if olds, err = w.since.board(serial); err != nil {
			return err
		}
	}
	t, err := w.takeAgain(serial, olds, &report)
	if err != nil {
		if w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		report.Failed = err.Error()
		w.report.Boards = append(w.report.Boards, report)
		return w.tar.Document(boardsDir+serial.String()+"/"+failedDoc, failed{report.Failed})
	}
	defer t.close()
	w.report.Boards = append(w.report.Boards, report)
	prefix := boardsDir + serial.String() + "/"
	if err := w.tar.Document(prefix+boardDoc, t.packed); err != nil {
		return err
	}
	for _, p := range t.parts {
		if p.taken == nil {
			err = w.tar.Same(prefix+p.Name, p.ID)
		} else {
			err = w.tar.Tree(w.ctx, prefix+p.Name, p.taken)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

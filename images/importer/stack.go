package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer/bounds"
	"rubus/images/importer/layer"
	"rubus/images/importer/meter"
	"rubus/images/internal/onefs"
	"rubus/images/share"
)

// stack is the layers of a version that is being made: those of the base, then new ones.
type stack struct {
	store *images.Store
	o     Options
	meter *meter.Meter
	notes *layer.Notes
	space *bounds.Space
	fd    int // the store's directory
	base  []string
	built []images.Built
	kept  int // of built are new, and in the store already
	start time.Time
	stop  func() // ends what is told of the progress
}

// newStack begins a version of an image; holes says that holes of the source's files cost no time.
// close ends it.
func newStack(store *images.Store, name string, o Options, holes bool) (*stack, error) {
	if err := checkOptions(name, o); err != nil {
		return nil, err
	}
	s := &stack{store: store, o: o, meter: new(meter.Meter), notes: layer.NewNotes(), start: time.Now()}
	var err error
	if s.fd, err = onefs.OpenRoot(store.Dir()); err != nil {
		return nil, err
	}
	if s.space, err = bounds.New(s.fd, o.limits()); err != nil {
		unix.Close(s.fd)
		return nil, err
	}
	s.stop = s.meter.Report(o.Progress)
	if holes {
		s.space.HolesAreFree()
	}
	if o.Base != nil {
		s.base = store.LayerDirs(*o.Base)
	}
	return s, nil
}

// dirs are the trees of all layers so far, the uppermost first.
func (s *stack) dirs() []string {
	var out []string
	for _, b := range slices.Backward(s.built) {
		if b.Pending != nil {
			out = append(out, b.Pending.Dir())
		} else {
			out = append(out, s.store.LayerDir(b.Digest))
		}
	}
	return append(out, s.base...)
}

// add makes one more layer, which fill fills.
func (s *stack) add(ctx context.Context, chain string, fill func(*layer.Builder) error) error {
	p, err := s.store.Begin(ctx)
	if err != nil {
		return err
	}
	below, err := layer.OpenLower(s.dirs())
	if err != nil {
		return errors.Join(err, p.Abort())
	}
	b := layer.NewBuilder(ctx, p.Tree(), s.meter, s.space, s.notes, below)
	defer b.Close()
	b.Devices = s.o.Devices
	if len(below) > 0 {
		// Seen through the stack the uppermost root counts: unless the source says so, nothing changes.
		if e, err := below.Entry(""); err == nil && e != nil {
			b.Root.Inode = e
		}
	}
	entries, bytes, err := b.Finish(fill(b))
	if err != nil {
		return errors.Join(err, p.Abort())
	}
	s.built = append(s.built, images.Built{Pending: p, Entries: entries, Bytes: bytes, Chain: chain})
	return nil
}

// close removes what was made and is in no version, and ends what is told. A version that was made is good
// whatever could not be removed: then that is a note.
func (s *stack) close(rep *Report, err *error) {
	s.stop()
	switch e := s.abort(); {
	case e == nil:
	case *err == nil:
		rep.Notes = append(rep.Notes, fmt.Sprintf("cleaning up: %v", e))
	default:
		*err = errors.Join(*err, e)
	}
}

// abort removes what was made. It does nothing after a commit.
func (s *stack) abort() error {
	var errs []error
	for _, b := range s.built {
		if b.Pending != nil {
			errs = append(errs, b.Pending.Abort())
		}
	}
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
	return errors.Join(errs...)
}

// finish makes a version of the stack.
func (s *stack) finish(ctx context.Context, nv images.NewVersion, rep Report) (images.Version, Report, error) {
	o := s.o
	made := len(s.built)
	for _, more := range []func(context.Context, *Top) error{o.BootFiles, o.Finish} {
		if more == nil {
			continue
		}
		if err := s.top(ctx, more); err != nil {
			return images.Version{}, rep, err
		}
	}
	boot, err := s.chooseBoot()
	if err != nil {
		return images.Version{}, rep, err
	}
	if err := errors.Join(s.container(), s.foreign()); err != nil {
		return images.Version{}, rep, err
	}
	s.inspect()
	s.meter.SetPhase(Syncing)
	nv.Message, nv.Base, nv.Boot, nv.NoTag = o.Message, o.Base, boot, o.NoTag
	v, shared, err := s.store.Commit(ctx, nv, s.built)
	if err != nil {
		return v, rep, err
	}
	below := 0
	if o.Base != nil {
		below = len(o.Base.Layers)
	}
	rep.Layers = v.Layers[min(below, len(v.Layers)-1):]
	if shared-s.kept < len(s.built) {
		rep.Joined = s.join(ctx, rep.Layers)
	}
	s.meter.SetPhase(Done)
	s.stop()
	rep.Layer = rep.Layers[max(1, min(made, len(rep.Layers)))-1]
	rep.Shared = shared == len(s.built)
	rep.Notes = s.notes.Lines()
	rep.Duration = time.Since(s.start)
	return v, rep, nil
}

// join has the files of new layers share the blocks of those that the store had. The version
// is made: what goes wrong here costs space.
func (s *stack) join(ctx context.Context, layers []images.Layer) *share.Report {
	o := share.Options{Only: make([]string, 0, len(layers))}
	for _, l := range layers {
		o.Only = append(o.Only, l.Digest)
	}
	begun := false
	o.Progress = func(e share.Event) {
		if !begun { // where nothing can be joined, nothing is said of it
			begun = true
			s.meter.Total.Store(0)
			s.meter.SetPhase(Joining)
		}
		s.meter.Files.Store(e.Files)
		s.meter.Read.Store(e.Bytes)
	}
	rep, err := share.Run(ctx, s.store, o)
	switch {
	case errors.Is(err, share.ErrUnsupported):
		return nil
	case err != nil && ctx.Err() != nil:
		s.notes.Add("what other layers have too was not joined to the end: it takes more of the disk than it needs to", "")
	case err != nil:
		s.notes.Add(fmt.Sprintf("what is stored twice could not be joined: %v", err), "")
	}
	for _, d := range rep.Damaged {
		s.notes.Add("files that should be the same are not, so that one is damaged: \"rubus image verify\" says which", d)
	}
	return &rep
}

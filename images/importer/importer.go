package importer

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/treesum"
)

// Options of an import; the zero value is good.
type Options struct {
	// Base is the version whose layers the new one is stacked on; nil: none.
	Base *images.Version
	// Message is kept with the version.
	Message string
	// NoTag leaves the image's tag where it is.
	NoTag bool
	// Boot is where the boot files lie, images.BootFirmware or images.BootPlain; "" finds out.
	Boot string
	// MaxBytes bounds the content written, in bytes without holes; 0: only by the space.
	MaxBytes int64
	// MaxSize bounds the sizes of all files together, in bytes with holes; 0 is 4 TiB for
	// a directory and 256 GiB for a tarball, whose holes take time to read.
	MaxSize int64
	// Reserve is the space in bytes that stays free on the store's file system; 0 is
	// 1 GiB or a twentieth of it, whichever is less.
	Reserve int64
	// Stdin is read for the source "-".
	Stdin io.Reader
	// Progress is called about ten times a second and at every new phase, by one goroutine at a time; nil: silent.
	Progress func(Event)
}

// Phase is what an import is doing.
type Phase string

// The phases of an import, in their order.
const (
	Reading Phase = "reading" // content is copied
	Syncing Phase = "syncing" // all is brought to the disk, and the version made
	Done    Phase = "done"    // the version is there
)

// Event is how far an import is.
type Event struct {
	Phase Phase
	// Read is how much of the source was read, in bytes: of a tarball as it
	// lies on the disk, of a directory the content. Total is all of it, 0 while unknown.
	Read, Total int64
	// Files counts names so far.
	Files int64
}

// Report is what an import did.
type Report struct {
	// Layer is the new layer; Shared says that it was there already.
	Layer  images.Layer `json:"layer"`
	Shared bool         `json:"shared"`
	// Format is what the source was, as in "tar, zstd".
	Format string `json:"format"`
	// Notes say what was left out, and what will surprise.
	Notes []string `json:"notes,omitempty"`
	// Duration is the time it took.
	Duration time.Duration `json:"duration_ns"`
}

// Import makes the next version of the image name out of source, a directory,
// a tarball (plain or compressed with gzip, xz or zstd) or "-" for a tarball on
// Options.Stdin, and moves the tag to it. The version appears whole and on the disk, or, after an error
// or a crash, not at all. It may block for long; a canceled ctx ends it.
func Import(ctx context.Context, store *images.Store, name, source string, o Options) (images.Version, Report, error) {
	v, rep, err := run(ctx, store, name, source, o)
	if err != nil {
		// What a canceled import stumbled over is of no interest.
		if c := context.Cause(ctx); c != nil {
			err = c
		}
		return images.Version{}, Report{}, fmt.Errorf("importing %q: %w", source, err)
	}
	return v, rep, nil
}

func run(ctx context.Context, store *images.Store, name, source string, o Options) (v images.Version, rep Report, err error) {
	start := time.Now()
	if err := checkOptions(name, o); err != nil {
		return v, rep, err
	}
	src, err := openSource(ctx, source, o.Stdin)
	if err != nil {
		return v, rep, err
	}
	defer src.Close()
	pending, err := store.Begin(ctx)
	if err != nil {
		return v, rep, err
	}
	defer func() {
		if e := pending.Abort(); e != nil && err == nil {
			rep.Notes = append(rep.Notes, fmt.Sprintf("cleaning up: %v", e))
		}
	}()
	var m meter
	stop := m.report(o.Progress)
	defer stop()

	notes := newNotes()
	entries, bytes, err := build(ctx, pending.Tree(), src, &m, notes, o)
	if err != nil {
		return v, rep, err
	}
	boot, err := chooseBoot(store, entries, o, notes)
	if err != nil {
		return v, rep, err
	}
	inspect(entries, o.Base != nil, notes)
	m.setPhase(Syncing)
	v, rep.Shared, err = pending.Commit(ctx, images.NewVersion{
		Name: name, Source: src.name, Message: o.Message, Base: o.Base, Boot: boot, NoTag: o.NoTag,
	}, entries, bytes)
	if err != nil {
		return v, rep, err
	}
	m.setPhase(Done)
	stop()
	rep.Layer, rep.Format, rep.Notes = v.Layers[len(v.Layers)-1], src.format, notes.lines()
	rep.Duration = time.Since(start)
	return v, rep, nil
}

// build fills the empty tree from the source.
func build(ctx context.Context, tree int, src *source, m *meter, notes *notes, o Options) ([]treesum.Entry, int64, error) {
	space, err := newSpace(tree, o, src.dir >= 0)
	if err != nil {
		return nil, 0, err
	}
	b := newBuilder(ctx, tree, m, space, notes, o.Base != nil)
	defer b.close()
	if src.dir >= 0 {
		err = copyDir(b, src, o.Progress != nil)
	} else {
		err = readTar(b, src)
	}
	return b.finish(err)
}

// source is what is imported: a directory or a stream.
type source struct {
	name   string
	format string
	dir    int       // a descriptor, or -1
	stream io.Reader // decompressed
	// taken is how many bytes of the source file were read.
	taken   func() int64
	total   int64
	closers []func() error
}

// Close gives up what the source holds.
func (s *source) Close() error {
	for i := len(s.closers) - 1; i >= 0; i-- {
		_ = s.closers[i]()
	}
	if s.dir >= 0 {
		unix.Close(s.dir)
	}
	return nil
}

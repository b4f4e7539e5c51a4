package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"rubus/images"
	"rubus/images/importer/bounds"
	"rubus/images/importer/directory"
	"rubus/images/importer/diskimage"
	"rubus/images/importer/layer"
	"rubus/images/importer/meter"
	"rubus/images/importer/source"
	"rubus/images/importer/spool"
	"rubus/images/importer/tarball"
	"rubus/images/share"
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
	// MaxSize bounds the sizes of all files together, in bytes with holes, and what a packed disk image
	// unpacks to; 0 is 4 TiB for a directory, and 256 GiB for what takes time to unpack, holes too.
	MaxSize int64
	// Reserve is the space in bytes that stays free on the store's file system; 0 is
	// 1 GiB or a twentieth of it, whichever is less.
	Reserve int64
	// Partition is the number of the partition of a disk image that holds the root; 0 finds out.
	Partition int
	// Devices is what becomes of device nodes; "" keeps them.
	Devices layer.Devices
	// SHA256 is what the source file must have, in hex; "": anything.
	SHA256 string
	// Client downloads; nil: one with the defaults of net/http.
	Client *http.Client
	// BootFiles, when set, is called when the layers of the source are made: it may put one more there,
	// with boot files from elsewhere.
	BootFiles func(ctx context.Context, top *Top) error
	// Finish, when set, is called when all other layers are made and before there is a version: it may put
	// one more layer on top.
	Finish func(ctx context.Context, top *Top) error
	// Stdin is read for the source "-".
	Stdin io.Reader
	// Progress is called about ten times a second and at every new phase, by one goroutine at a time; nil: silent.
	Progress func(Event)
}

func (o Options) limits() bounds.Limits {
	return bounds.Limits{MaxBytes: o.MaxBytes, MaxSize: o.MaxSize, Reserve: o.Reserve}
}

// Phase is what an import is doing.
type Phase = meter.Phase

// The phases of an import, in their order.
const (
	Fetching  = meter.Fetching
	Unpacking = meter.Unpacking
	Reading   = meter.Reading
	Syncing   = meter.Syncing
	Joining   = meter.Joining
	Done      = meter.Done
)

// Event is how far an import is.
type Event = meter.Event

// ManyRootsError says that Options.Partition has to choose.
type ManyRootsError = diskimage.ManyRootsError

// Report is what an import did.
type Report struct {
	// Layer is the new layer that the source was made; Shared says that it was there already.
	Layer  images.Layer `json:"layer"`
	Shared bool         `json:"shared"`
	// Layers are all that the source was made, the bottom one first.
	Layers []images.Layer `json:"layers"`
	// Format is what the source was, as in "tar, zstd".
	Format string `json:"format"`
	// Joined says what of it the disk had already, in other layers, and holds once now; nil: its file system
	// can't do that, or all layers were there.
	Joined *share.Report `json:"joined,omitempty"`
	// Notes say what was left out, and what will surprise.
	Notes []string `json:"notes,omitempty"`
	// Duration is the time it took.
	Duration time.Duration `json:"duration_ns"`
}

// Errors of an import that callers tell apart.
var (
	// ErrNoSpace says that an import would have taken the space that stays free.
	ErrNoSpace = bounds.ErrNoSpace
	// ErrTooBig says that an import is bigger than it may be.
	ErrTooBig = bounds.ErrTooBig
)

// ChecksumError says that the source is not what it should be.
type ChecksumError = source.ChecksumError

// Import makes the next version of the image name out of from: a directory, a
// tarball or disk image (plain or compressed with gzip, xz or zstd; an image also as zip), a block device,
// an https URL, or "-" for Options.Stdin; and moves the tag to it. The version appears whole and on the disk, or, after an error
// or a crash, not at all. It may block for long; a canceled ctx ends it.
func Import(ctx context.Context, store *images.Store, name, from string, o Options) (images.Version, Report, error) {
	v, rep, err := run(ctx, store, name, from, o)
	if err != nil {
		// What a canceled import stumbled over is of no interest.
		if c := context.Cause(ctx); c != nil {
			err = c
		}
		return images.Version{}, Report{}, fmt.Errorf("importing %q: %w", from, err)
	}
	return v, rep, nil
}

func run(ctx context.Context, store *images.Store, name, from string, o Options) (v images.Version, rep Report, err error) {
	st, err := newStack(store, name, o, false)
	if err != nil {
		return v, rep, err
	}
	defer st.close(&rep, &err)
	src, err := source.Open(ctx, from, source.Options{SHA256: o.SHA256, Client: o.Client, Stdin: o.Stdin, Keep: st.keep})
	if err != nil {
		return v, rep, err
	}
	defer src.Close()
	if o.Partition != 0 && !src.Disk {
		return v, rep, fmt.Errorf("it is no disk image and has no partition %d: leave \"--partition\" out", o.Partition)
	}
	if src.Dir >= 0 || src.Disk {
		st.space.HolesAreFree()
	}
	err = st.add(ctx, "", func(b *layer.Builder) error { return st.fill(b, src) })
	if err != nil {
		return v, rep, err
	}
	if err := src.Check(); err != nil {
		return v, rep, err
	}
	if len(st.built[0].Entries) <= 1 { // its root alone
		return v, rep, errors.New("there is nothing in it")
	}
	rep.Format = src.Format
	// What was unpacked to a file is not written to the disk for nothing.
	_ = src.Close()
	return st.finish(ctx, images.NewVersion{Name: name, Source: src.Name}, rep)
}

// keep is source.keep: it takes a zip file as it comes.
func (s *stack) keep(what string, in io.Reader, src *source.Source) (*spool.File, error) {
	if err := s.space.Expect(src.Total); err != nil {
		return nil, err
	}
	return s.spool(Fetching, what, in, src)
}

// spool begins to put a stream where it can be read anywhere, and tells how far it is. The source closes it.
func (s *stack) spool(p Phase, what string, in io.Reader, src *source.Source) (*spool.File, error) {
	out, err := spool.New(filepath.Join(s.store.Dir(), "tmp"), s.space, what, s.o.limits().Unpacked())
	if err != nil {
		return nil, err
	}
	stop, taken := src.Stopper(), src.Taken
	src.OnClose(func() error {
		out.End(context.Canceled)
		stop()
		_, _ = out.All() // it was stopped, whatever came of it
		return out.Close()
	})
	s.meter.Came.Store(0)
	s.meter.Coming.Store(src.Total)
	s.meter.SetPhase(p)
	go out.Fill(in, func() { s.meter.Came.Store(taken()) }, func() { s.meter.SetPhase(Reading) })
	return out, nil
}

// fill fills an empty tree from the source.
func (s *stack) fill(b *layer.Builder, src *source.Source) error {
	switch {
	case src.Dir >= 0:
		return directory.Copy(b, src.Dir, src.Name, directory.Options{Count: s.o.Progress != nil})
	case !src.Disk:
		return tarball.Copy(b, src)
	case src.Random != nil:
		return diskimage.Copy(b, diskimage.Image{ReaderAt: src.Random, Size: src.Size}, s.o.Partition)
	}
	unpacked, err := s.spool(Unpacking, "disk image", src.Stream, src)
	if err != nil {
		return err
	}
	if src.Kept != nil {
		// The file, what is in it and the layer need not fit beside each other.
		size, err := unpacked.All()
		if err != nil {
			return unpacking(src, err)
		}
		src.Kept.Close()
		return diskimage.Copy(b, diskimage.Image{ReaderAt: unpacked.ReaderAt(), Size: size}, s.o.Partition)
	}
	err = diskimage.Copy(b, diskimage.Image{ReaderAt: unpacked.Reader(b.Ctx), Size: unpacked.Max(), All: unpacked.All}, s.o.Partition)
	if err == nil {
		return nil
	}
	if cause := context.Cause(b.Ctx); cause != nil {
		err = cause // what a worker stumbled over
	}
	if errors.Is(err, bounds.ErrNoSpace) || errors.Is(err, bounds.ErrTooBig) {
		unpacked.End(err) // for workers that wait for more
		return err
	}
	// Damage of what is packed looks like damage of what is in it.
	if _, e := unpacked.All(); e != nil {
		return unpacking(src, e)
	}
	return err
}

// unpacking explains an error of the stream that a disk image comes from.
func unpacking(src *source.Source, err error) error {
	kind, compressed := strings.CutPrefix(src.Format, "disk image, ")
	if errors.Is(err, bounds.ErrNoSpace) || errors.Is(err, bounds.ErrTooBig) || !compressed {
		return err
	}
	return source.Broken(kind, err)
}

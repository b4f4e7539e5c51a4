package source

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/images/importer/bounds"
	"rubus/images/importer/spool"
	"rubus/images/internal/onefs"
)

// Options say how a source is opened; the zero value is good.
type Options struct {
	// SHA256 is what the source file must have, in hex; "": anything.
	SHA256 string
	// Client downloads; nil: one with the defaults of net/http.
	Client *http.Client
	// Stdin is read for the source "-".
	Stdin io.Reader
	// Keep begins to keep a stream of s that has to be read anywhere; nil: such are refused.
	Keep func(what string, in io.Reader, s *Source) (*spool.File, error)
}

// Source is what is imported: a directory, a tarball or a disk image. Its methods are for one goroutine.
type Source struct {
	Name string
	// Format is in words, as in "tar, zstd".
	Format string
	// Dir is the descriptor of a directory, or -1.
	Dir int
	// Stream is decompressed: a tarball, or a disk image when Disk is set.
	Stream io.Reader
	Disk   bool
	// Random is a disk image that can be read anywhere as it is, of Size bytes.
	Random io.ReaderAt
	Size   int64
	// Taken is how many bytes of the source file were read, Total how many there are, 0 while unknown.
	Taken func() int64
	Total int64
	// Kept is a zip file that came as a stream, until its image is unpacked.
	Kept *spool.File

	o       Options
	raw     io.Reader // what is left of the source file behind Stream
	sum     hash.Hash // of what was read of it; nil: nobody wants to know
	closers []func() error
	stop    func() // ends reads of Stream
}

// OnClose has Close call f, before what was asked for earlier.
func (s *Source) OnClose(f func() error) { s.closers = append(s.closers, f) }

// Stopper is what ends reads of the stream at hand, now and later ones.
func (s *Source) Stopper() func() { return s.stop }

// Close gives up what the source holds.
func (s *Source) Close() error {
	for i := len(s.closers) - 1; i >= 0; i-- {
		_ = s.closers[i]()
	}
	s.closers = nil
	if s.Dir >= 0 {
		unix.Close(s.Dir)
		s.Dir = -1
	}
	return nil
}

// Open opens what is imported and finds out what it is by its content.
func Open(ctx context.Context, name string, o Options) (*Source, error) {
	s := &Source{Name: name, Dir: -1, o: o}
	if err := s.open(ctx, name); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// OpenStream opens a tarball or disk image that is in, which stays the caller's.
func OpenStream(ctx context.Context, in io.Reader) (*Source, error) {
	s := &Source{Dir: -1}
	if err := s.openStream(ctx, in); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Source) open(ctx context.Context, name string) error {
	if s.o.SHA256 != "" {
		s.sum = sha256.New()
	}
	switch {
	case name == "-":
		if s.o.Stdin == nil {
			return errors.New("there is no standard input to read")
		}
		return s.openStream(ctx, s.o.Stdin)
	case isURL(name):
		return s.openURL(ctx, name)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	s.Name = abs
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return err
	case st.IsDir() && s.o.SHA256 != "":
		return errors.New("a directory has no SHA-256")
	case st.IsDir():
		s.Format = "directory"
		s.Dir, err = onefs.OpenRoot(name)
		return err
	}
	block := st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0
	if !st.Mode().IsRegular() && st.Mode()&os.ModeNamedPipe == 0 && !block {
		return fmt.Errorf("it is neither a directory nor a tarball nor a disk image")
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, f.Close)
	if st.Mode()&os.ModeNamedPipe != 0 {
		return s.openStream(ctx, f)
	}
	return s.openFile(ctx, f, st)
}

// openFile opens what can be read anywhere: a file or a block device.
func (s *Source) openFile(ctx context.Context, f *os.File, st fs.FileInfo) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	s.Total = size
	head := make([]byte, headSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch kind := sniff(head[:n]); {
	case kind == "disk" || kind == "zip":
		if s.sum != nil {
			// They are read here and there, so this is a pass of its own.
			if _, err := io.Copy(s.sum, contextReader{ctx, f}); err != nil {
				return err
			}
		}
		s.raw = strings.NewReader("")
		if err := s.Check(); err != nil {
			return err
		}
		if kind == "zip" {
			return s.openZip(ctx, f, size)
		}
		s.Format, s.Disk, s.Random, s.Size = "disk image", true, f, size
		return nil
	case !st.Mode().IsRegular():
		return errors.New("the device holds no partition table and no file system that rubus reads")
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL)
	return s.openStream(ctx, f)
}

// openStream stacks the stages of a stream: count, decompress, read ahead.
func (s *Source) openStream(ctx context.Context, in io.Reader) error {
	var n atomic.Int64
	s.Taken = n.Load
	if s.sum != nil {
		in = io.TeeReader(in, s.sum)
	}
	raw := bufio.NewReaderSize(&counter{in, &n}, 256<<10)
	s.raw = raw
	kind, err := sniffStream(raw)
	if err != nil {
		return err
	}
	plain := stage{Reader: raw}
	switch kind {
	case "tar":
		s.Format = "tar"
	case "disk":
		s.Format, s.Disk = "disk image", true
	case "gzip", "xz", "zstd":
		if plain, err = decompress(ctx, kind, raw); err != nil {
			return Broken(kind, err)
		}
	case "":
		return errors.New("it is empty")
	case "zip":
		return s.keepZip(ctx, raw)
	default:
		return fmt.Errorf("it is %s: rubus takes directories, .tar and .img files, these also as .gz, .xz and .zst, and .zip files with an image in them", kind)
	}
	return s.openPlain(ctx, kind, plain)
}

// sniffStream is sniff for a stream: no more of it is waited for than is needed.
func sniffStream(r *bufio.Reader) (string, error) {
	for _, n := range []int{512, 2048} {
		head, err := r.Peek(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if kind := sniff(head); kind != unknownKind || n > 512 {
			return kind, nil
		}
	}
	return unknownKind, nil
}

// readAhead reads a stage in a goroutine that Close ends.
func (s *Source) readAhead(ctx context.Context, in stage) io.Reader {
	pump := newAhead(ctx, in)
	s.stop = pump.stop
	s.closers = append(s.closers, func() error {
		if in.interrupt != nil {
			in.interrupt()
		}
		if pump.Close() && in.close != nil {
			in.close()
		}
		return nil
	})
	return pump
}

// openPlain reads ahead of what is decompressed, and finds out what that is.
func (s *Source) openPlain(ctx context.Context, kind string, plain stage) error {
	buffered := bufio.NewReaderSize(s.readAhead(ctx, plain), 64<<10)
	s.Stream = buffered
	if kind == "tar" || kind == "disk" {
		return nil
	}
	inner, err := sniffStream(buffered)
	if err != nil {
		return Broken(kind, err)
	}
	switch inner {
	case "tar":
		s.Format = "tar, " + kind
	case "disk":
		s.Format, s.Disk = "disk image, "+kind, true
	default:
		return fmt.Errorf("what is compressed with %s in it is neither a tarball nor a disk image", kind)
	}
	return nil
}

// Check reads what is left of the source and compares its SHA-256.
func (s *Source) Check() error {
	if s.sum == nil {
		return nil
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(s.raw, bounds.MaxTrailer)); err != nil {
		return err
	} else if n == bounds.MaxTrailer {
		return fmt.Errorf("more than %d MiB follow the end of the archive", bounds.MaxTrailer>>20)
	}
	if got := hex.EncodeToString(s.sum.Sum(nil)); !strings.EqualFold(got, s.o.SHA256) {
		return &ChecksumError{Want: strings.ToLower(s.o.SHA256), Got: got}
	}
	return nil
}

// ChecksumError says that the source is not what it should be.
type ChecksumError struct{ Want, Got string }

// Error implements error.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("its SHA-256 is %s and not %s: it is damaged, or another one", e.Got, e.Want)
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one call
	r   io.Reader
}

// Read implements io.Reader.
func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// Broken explains an error of a decompressor.
func Broken(kind string, err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return fmt.Errorf("it ends in the middle (truncated %s data)", kind)
	case errors.As(err, new(*downloadError)), errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("the %s data is corrupt: %w", kind, err)
}

// headSize is how much of a file tells its kind, in bytes.
const headSize = 4096

// maxWindow is the zstd program's own limit for what it decompresses without
// being told more, in bytes.
const maxWindow = 128 << 20

func decompress(ctx context.Context, kind string, in io.Reader) (stage, error) {
	switch kind {
	case "gzip":
		z, err := gzip.NewReader(in)
		return stage{Reader: z}, err
	case "zstd":
		// It is read ahead of as it is: goroutines of its own only hand blocks around.
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return stage{}, err
		}
		return stage{Reader: z, close: z.Close}, nil
	}
	// Not found is no error: then it is done here.
	program, _ := exec.LookPath("xz")
	return newXZ(ctx, program, in)
}

type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

package importer

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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// source is what is imported: a directory, a tarball or a disk image.
type source struct {
	name   string
	format string
	sealed bool      // the directory is an upper: what it hides counts
	dir    int       // a descriptor, or -1
	stream io.Reader // decompressed; a tarball, or a disk image when disk is set
	disk   bool
	// random is a disk image that can be read anywhere as it is, of size bytes.
	random io.ReaderAt
	size   int64
	// taken is how many bytes of the source file were read.
	taken   func() int64
	total   int64
	raw     io.Reader // what is left of the source file behind stream
	sum     hash.Hash // of what was read of it; nil: nobody wants to know
	want    string    // what that has to be, in hex
	url     bool
	closers []func() error
	stop    func() // ends reads of stream
	// keep puts a stream where it can be read anywhere; nil: nobody does. kept is a zip file that
	// came so, until its image is unpacked.
	keep func(what string, in io.Reader, s *source) (*spool, error)
	kept *os.File
}

// Close gives up what the source holds.
func (s *source) Close() error {
	for i := len(s.closers) - 1; i >= 0; i-- {
		_ = s.closers[i]()
	}
	s.closers = nil
	if s.dir >= 0 {
		unix.Close(s.dir)
		s.dir = -1
	}
	return nil
}

// openSource opens what is imported and finds out what it is by its content. keep is source.keep.
func openSource(ctx context.Context, name string, o Options, keep func(string, io.Reader, *source) (*spool, error)) (*source, error) {
	s := &source{name: name, dir: -1, keep: keep}
	err := s.openNamed(ctx, name, o)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) openNamed(ctx context.Context, name string, o Options) error {
	if s.want = o.SHA256; s.want != "" {
		s.sum = sha256.New()
	}
	switch {
	case name == "-":
		if o.Stdin == nil {
			return errors.New("there is no standard input to read")
		}
		return s.open(ctx, o.Stdin)
	case isURL(name):
		return s.openURL(ctx, name, o)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	s.name = abs
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return err
	case st.IsDir() && o.SHA256 != "":
		return errors.New("a directory has no SHA-256")
	case st.IsDir():
		s.format = "directory"
		s.dir, err = onefs.OpenRoot(name)
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
		return s.open(ctx, f)
	}
	return s.openFile(ctx, f, st)
}

// openFile opens what can be read anywhere: a file or a block device.
func (s *source) openFile(ctx context.Context, f *os.File, st fs.FileInfo) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	s.total = size
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
		if err := s.check(); err != nil {
			return err
		}
		if kind == "zip" {
			return s.openZip(ctx, f, size)
		}
		s.format, s.disk, s.random, s.size = "disk image", true, f, size
		return nil
	case !st.Mode().IsRegular():
		return errors.New("the device holds no partition table and no file system that rubus reads")
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL)
	return s.open(ctx, f)
}

// open stacks the stages of a stream: count, decompress, read ahead.
func (s *source) open(ctx context.Context, in io.Reader) error {
	var n atomic.Int64
	s.taken = n.Load
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
		s.format = "tar"
	case "disk":
		s.format, s.disk = "disk image", true
	case "gzip", "xz", "zstd":
		if plain, err = decompress(ctx, kind, raw); err != nil {
			return decompressing(kind, err)
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
func (s *source) readAhead(ctx context.Context, in stage) io.Reader {
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
func (s *source) openPlain(ctx context.Context, kind string, plain stage) error {
	buffered := bufio.NewReaderSize(s.readAhead(ctx, plain), 64<<10)
	s.stream = buffered
	if kind == "tar" || kind == "disk" {
		return nil
	}
	inner, err := sniffStream(buffered)
	if err != nil {
		return decompressing(kind, err)
	}
	switch inner {
	case "tar":
		s.format = "tar, " + kind
	case "disk":
		s.format, s.disk = "disk image, "+kind, true
	default:
		return fmt.Errorf("what is compressed with %s in it is neither a tarball nor a disk image", kind)
	}
	return nil
}

// check reads what is left of the source and compares its SHA-256.
func (s *source) check() error {
	if s.sum == nil {
		return nil
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(s.raw, maxTrailer)); err != nil {
		return err
	} else if n == maxTrailer {
		return fmt.Errorf("more than %d MiB follow the end of the archive", maxTrailer>>20)
	}
	if got := hex.EncodeToString(s.sum.Sum(nil)); !strings.EqualFold(got, s.want) {
		return &ChecksumError{Want: strings.ToLower(s.want), Got: got}
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

// decompressing explains an error of a decompressor.
func decompressing(kind string, err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return fmt.Errorf("it ends in the middle (truncated %s data)", kind)
	case errors.As(err, new(*downloadError)), errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("the %s data is corrupt: %w", kind, err)
}

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

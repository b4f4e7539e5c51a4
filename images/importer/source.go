package importer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// openSource opens what is imported and finds out what it is by its content.
func openSource(ctx context.Context, name string, stdin io.Reader) (*source, error) {
	s := &source{name: name, dir: -1}
	in := stdin
	if name != "-" {
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		s.name = abs
		st, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, err
		case st.IsDir():
			s.format = "directory"
			if s.dir, err = onefs.OpenRoot(name); err != nil {
				return nil, err
			}
			return s, nil
		case !st.Mode().IsRegular() && st.Mode()&os.ModeNamedPipe == 0:
			return nil, fmt.Errorf("it is neither a directory nor a tarball")
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, f.Close)
		if st.Mode().IsRegular() {
			s.total = st.Size()
			_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL)
		}
		in = f
	} else if in == nil {
		return nil, errors.New("there is no standard input to read")
	}
	if err := s.open(ctx, in); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// open stacks the stages of a stream: count, decompress, read ahead.
func (s *source) open(ctx context.Context, in io.Reader) error {
	var n atomic.Int64
	s.taken = n.Load
	raw := bufio.NewReaderSize(&counter{in, &n}, 256<<10)
	head, err := raw.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	kind := sniff(head)
	plain := stage{Reader: raw}
	switch kind {
	case "tar":
		s.format = "tar"
	case "gzip", "xz", "zstd":
		s.format = "tar, " + kind
		if plain, err = decompress(ctx, kind, raw); err != nil {
			return decompressing(kind, err)
		}
	case "":
		return errors.New("it is empty")
	default:
		return fmt.Errorf("it is %s: rubus takes directories and .tar, .tar.gz, .tar.xz and .tar.zst files", kind)
	}
	pump := newAhead(ctx, plain)
	s.closers = append(s.closers, func() error {
		if plain.interrupt != nil {
			plain.interrupt()
		}
		if pump.Close() && plain.close != nil {
			plain.close()
		}
		return nil
	})
	buffered := bufio.NewReaderSize(pump, 64<<10)
	s.stream = buffered
	if kind == "tar" {
		return nil
	}
	head, err = buffered.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return decompressing(kind, err)
	}
	if inner := sniff(head); inner != "tar" {
		return fmt.Errorf("what is compressed with %s in it is no tarball", kind)
	}
	return nil
}

// decompressing explains an error of a decompressor.
func decompressing(kind string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("it ends in the middle (truncated %s data)", kind)
	}
	return fmt.Errorf("the %s data is corrupt: %w", kind, err)
}

// sniff says what begins with head: "tar", "gzip", "xz", "zstd", "" for
// nothing at all, or in words what can't be imported.
func sniff(head []byte) string {
	for _, m := range []struct{ magic, kind string }{
		{"\x1f\x8b", "gzip"},
		{"\xfd7zXZ\x00", "xz"},
		{"\x28\xb5\x2f\xfd", "zstd"},
		{"BZh", "a bzip2 file"},
		{"\x5d\x00\x00", "an lzma file"},
		{"\x04\x22\x4d\x18", "an lz4 file"},
		{"PK\x03\x04", "a zip file"},
		{"7z\xbc\xaf\x27\x1c", "a 7z file"},
		{"hsqs", "a squashfs image"},
		{"QFI\xfb", "a qcow2 image"},
		{"!<arch>\n", "a Debian package or ar archive"},
		{"070701", "a cpio archive"},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.kind
		}
	}
	switch {
	case len(head) == 0:
		return ""
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18":
		return "zstd" // a skippable frame comes first
	case isTarHeader(head):
		return "tar"
	case len(head) == 512 && head[510] == 0x55 && head[511] == 0xaa:
		return "a disk image"
	}
	return "no tarball"
}

// isTarHeader checks the sum that every tar header carries: POSIX pax(1),
// "ustar Interchange Format", chksum: the sum of all bytes with the field itself as spaces.
// An archive without entries begins with zeros.
func isTarHeader(b []byte) bool {
	if len(b) < 512 {
		return false
	}
	const at, length = 148, 8
	var unsigned, signed int64
	for i, c := range b[:512] {
		if i >= at && i < at+length {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	field := strings.Trim(string(b[at:at+length]), " \x00")
	want, err := strconv.ParseInt(field, 8, 64)
	return err == nil && (want == unsigned || want == signed) || unsigned == length*' '
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
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow))
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

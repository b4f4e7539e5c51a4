package bootset

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxKernel bounds what is read of a kernel, unpacked, in bytes.
const maxKernel = 256 << 20

// banner begins the text that every Linux kernel holds: "Linux version 6.1.0-9 (...".
var banner = []byte("Linux version ")

// ErrCutOff says that a packed file ends too early.
var ErrCutOff = errors.New("it is cut off")

// Release is what a kernel calls itself, such as "6.12.25+rpt-rpi-v8": the name of
// its directory in /lib/modules. It is "" when the file does not say, as a packed
// one of an unknown kind. An error says that a packed kernel is cut off (ErrCutOff) or
// spoilt.
func Release(f File) (string, error) {
	in := io.Reader(io.NewSectionReader(f, 0, min(f.Size(), maxKernel)))
	var magic [2]byte
	if n, _ := f.ReadAt(magic[:], 0); n == 2 && magic == [2]byte{0x1f, 0x8b} {
		z, err := gzip.NewReader(in)
		if err != nil {
			return "", unpacking(err)
		}
		release := findRelease(io.LimitReader(z, maxKernel))
		// The rest is read too: a file that was cut off fails at its end.
		if _, err := io.Copy(io.Discard, io.LimitReader(z, maxKernel)); err != nil {
			return release, unpacking(err)
		}
		return release, nil
	}
	return findRelease(in), nil
}

// unpacking says what went wrong with a packed file.
func unpacking(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCutOff
	}
	return fmt.Errorf("unpacking: %w", err)
}

// findRelease looks for the banner in a stream.
func findRelease(in io.Reader) string {
	const keep = 256 // of one buffer for the next: a banner may lie across
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(in, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for rest := buf; ; {
			i := bytes.Index(rest, banner)
			if i < 0 {
				break
			}
			rest = rest[i+len(banner):]
			if len(rest) < keep && err == nil {
				break // the whole of it comes with the next read
			}
			if r := releaseAt(rest); r != "" {
				return r
			}
		}
		if err != nil {
			return ""
		}
		tail := copy(buf[:keep+len(banner)], buf[len(buf)-keep-len(banner):])
		buf = buf[:tail]
	}
}

// releaseAt reads a release up to the blank behind it: "%s" of a format is none.
func releaseAt(b []byte) string {
	end := bytes.IndexByte(b[:min(len(b), 128)], ' ')
	if end <= 0 || b[0] < '0' || b[0] > '9' {
		return ""
	}
	s := string(b[:end])
	if strings.ContainsFunc(s, func(r rune) bool { return !releaseRune(r) }) {
		return ""
	}
	return s
}

func releaseRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(".+-_~", r)
}

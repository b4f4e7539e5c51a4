package bootset

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Bounds of what is read of an initramfs.
const (
	maxInitramfs = 256 << 20 // unpacked, in bytes
	maxWindow    = 128 << 20 // of memory for unpacking zstd: its largest level's
	maxMembers   = 100_000
	maxReleases  = 16
	maxPadding   = 1 << 20 // between two archives, in bytes
	maxCPIOName  = 4096
)

// InitramfsReleases lists the kernel releases that an initramfs has modules of:
// archives in cpio's "newc" form, one behind the other, plain or packed with
// gzip or zstd (Documentation/driver-api/early-userspace/buffer-format.rst).
// What was found until an error stands.
func InitramfsReleases(f File) ([]string, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, f.Size()), 64<<10)
	var found []string
	for {
		if err := skipZeros(r); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return found, err
		}
		magic, _ := r.Peek(6)
		var in io.Reader
		switch {
		case bytes.HasPrefix(magic, []byte("07070")):
			if err := readCPIO(r, &found); err != nil {
				return found, err
			}
			continue // another may follow
		case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
			z, err := gzip.NewReader(r)
			if err != nil {
				return found, unpacking(err)
			}
			in = z
		case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
			z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return found, unpacking(err)
			}
			defer z.Close()
			in = z
		default:
			return found, errors.New("it is packed in a way that is not known here")
		}
		limited := &io.LimitedReader{R: in, N: maxInitramfs}
		err := readCPIO(bufio.NewReaderSize(limited, 64<<10), &found)
		if limited.N <= 0 {
			err = errors.New("it is too large when unpacked")
		}
		return found, err
	}
}

// skipZeros reads the padding between archives.
func skipZeros(r *bufio.Reader) error {
	for range maxPadding {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return r.UnreadByte()
		}
	}
	return errors.New("it is empty for long")
}

// readCPIO reads the names of one archive up to its trailer.
func readCPIO(r *bufio.Reader, found *[]string) error {
	for range maxMembers {
		var head [110]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return unpacking(err)
		}
		if magic := string(head[:6]); magic != "070701" && magic != "070702" {
			return errors.New("it is no cpio archive in the form newc")
		}
		bytesOf, err1 := strconv.ParseUint(string(head[54:62]), 16, 32)
		nameLen, err2 := strconv.ParseUint(string(head[94:102]), 16, 32)
		if err1 != nil || err2 != nil || nameLen == 0 || nameLen > maxCPIOName {
			return errors.New("a member of the archive has a bad head")
		}
		name := make([]byte, pad4(110+int64(nameLen))-110)
		if _, err := io.ReadFull(r, name); err != nil {
			return unpacking(err)
		}
		text := strings.TrimRight(string(name[:nameLen]), "\x00")
		if text == "TRAILER!!!" {
			return nil
		}
		if rel := moduleRelease(text); rel != "" && len(*found) < maxReleases && !slices.Contains(*found, rel) {
			*found = append(*found, rel)
		}
		if _, err := io.CopyN(io.Discard, r, pad4(int64(bytesOf))); err != nil {
			return unpacking(err)
		}
	}
	return errors.New("it has too many members")
}

func pad4(n int64) int64 { return (n + 3) &^ 3 }

// moduleRelease takes the release out of a module's path; "" for others.
func moduleRelease(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "./"), "/")
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/")
	if !ok {
		return ""
	}
	rel, _, _ := strings.Cut(rest, "/")
	if rel == "" || strings.ContainsFunc(rel, func(r rune) bool { return !releaseRune(r) }) {
		return ""
	}
	return rel
}

package source

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync/atomic"

	"rubus/images/importer/bounds"
)

// maxZipList bounds the list of files at the end of a zip file, in bytes: all of it is in memory at once.
const maxZipList = 8 << 20

// keepZip takes a zip file that comes as a stream: its list of files is at its end, so that all of it is kept
// first. What it has to be by its SHA-256 it is before anything in it is looked at.
func (s *Source) keepZip(ctx context.Context, in io.Reader) error {
	if s.o.Keep == nil {
		return errors.New("it is a zip file and no layer")
	}
	kept, err := s.o.Keep("zip file", s.readAhead(ctx, stage{Reader: in}), s)
	if err != nil {
		return err
	}
	size, err := kept.All()
	if err != nil {
		return err
	}
	s.Kept = kept
	if err := s.Check(); err != nil {
		return err
	}
	return s.openZip(ctx, kept.ReaderAt(), size)
}

// openZip finds the image in a zip file: the only file that ends in .img, or
// the only file at all.
func (s *Source) openZip(ctx context.Context, r io.ReaderAt, size int64) error {
	bounded := &boundedReaderAt{r: r, left: maxZipList}
	z, err := zip.NewReader(bounded, size)
	// Names are compared and shown; no file here is called by one.
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return fmt.Errorf("the zip file is damaged or cut off: %w", err)
	}
	bounded.done = true
	f, err := imageIn(z.File)
	if err != nil {
		return err
	}
	in, err := f.Open()
	switch {
	case errors.Is(err, zip.ErrAlgorithm):
		return fmt.Errorf("%q in the zip file is packed with method %d, and rubus reads deflate: unpack it, and name the image", bounds.Short(f.Name), f.Method)
	case err != nil:
		return fmt.Errorf("the zip file is damaged: %q: %w", bounds.Short(f.Name), err)
	}
	s.closers = append(s.closers, in.Close)
	s.Total = int64(min(f.UncompressedSize64, 1<<62)) // a hostile one only shows a wrong bar
	var n atomic.Int64
	s.Taken = n.Load
	return s.openPlain(ctx, "zip", stage{Reader: &counter{in, &n}})
}

// imageIn chooses the file that is the image.
func imageIn(list []*zip.File) (*zip.File, error) {
	var images, files []*zip.File
	for _, f := range list {
		// One that was packed from a pipe says that it is one.
		if f.Mode().Type()&^os.ModeNamedPipe != 0 || isAppleDouble(f.Name) {
			continue
		}
		files = append(files, f)
		if strings.HasSuffix(strings.ToLower(f.Name), ".img") {
			images = append(images, f)
		}
	}
	if len(images) == 0 {
		images = files
	}
	switch {
	case len(files) == 0:
		return nil, errors.New("the zip file holds no files")
	case len(images) != 1:
		return nil, fmt.Errorf("the zip file holds %d files and none or several end in .img: unpack it, and name the image", len(files))
	case images[0].Flags&1 != 0: // PKWARE's APPNOTE.TXT, 4.4.4: bit 0
		return nil, fmt.Errorf("%q in the zip file is encrypted: unpack it, and name the image", bounds.Short(images[0].Name))
	}
	return images[0], nil
}

// isAppleDouble says whether macOS put the file beside one that was packed, with that one's attributes.
func isAppleDouble(name string) bool {
	return strings.HasPrefix(name, "__MACOSX/") || strings.HasPrefix(path.Base(name), "._")
}

// boundedReaderAt reads so many bytes at most, until it is done.
type boundedReaderAt struct {
	r    io.ReaderAt
	left int64
	done bool
}

// ReadAt implements io.ReaderAt.
func (b *boundedReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if !b.done {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, fmt.Errorf("%w: its list of files has more than %s", bounds.ErrTooBig, bounds.MiB(maxZipList))
		}
	}
	return b.r.ReadAt(p, off)
}

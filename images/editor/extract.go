package editor

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// extract unpacks files, directories and links of root to a directory: within the
// image, where every path stays.
func extract(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	type dirTime struct {
		path string
		h    *tar.Header
	}
	var dirs []dirTime
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading what is copied: %w", err)
		}
		p := filepath.Join(dir, filepath.Clean("/"+h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			// One that is there stays what it is.
			if st, err := os.Stat(p); err == nil && st.IsDir() {
				continue
			}
			err = os.Mkdir(p, h.FileInfo().Mode().Perm())
			dirs = append(dirs, dirTime{p, h})
		case tar.TypeSymlink:
			_ = os.Remove(p)
			err = os.Symlink(h.Linkname, p)
		case tar.TypeLink:
			_ = os.Remove(p)
			err = os.Link(filepath.Join(dir, filepath.Clean("/"+h.Linkname)), p)
		case tar.TypeReg:
			err = extractFile(t, p, h)
		default:
			err = fmt.Errorf("%q is no file, directory or link", h.Name)
		}
		if err != nil {
			return err
		}
	}
	// Who writes it would not like to be left alone with the rest.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := errors.Join(os.Chmod(d.path, d.h.FileInfo().Mode()), os.Chtimes(d.path, d.h.ModTime, d.h.ModTime)); err != nil {
			return err
		}
	}
	return nil
}

func extractFile(r io.Reader, p string, h *tar.Header) error {
	_ = os.Remove(p)
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Chmod(h.FileInfo().Mode()), f.Close(), os.Chtimes(p, h.ModTime, h.ModTime))
}

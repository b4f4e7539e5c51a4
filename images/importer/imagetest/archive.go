package imagetest

import (
	"archive/tar"
	"bytes"
	"testing"
	"time"
)

// Time is that of all entries of archives that say none.
func Time() time.Time { return time.Unix(1700000000, 0) }

// Entry is one entry of an archive.
type Entry struct {
	Header tar.Header
	Body   string
}

// With changes the header of an entry.
func (e Entry) With(change func(h *tar.Header)) Entry {
	change(&e.Header)
	return e
}

// File is a file that all may read.
func File(name, body string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

// Dir is a directory that all may read.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

// Symlink is a symbolic link.
func Symlink(name, to string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}}
}

// Hardlink is another name of an entry before it.
func Hardlink(name, to string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}}
}

// Archive is a tarball of these entries.
func Archive(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Header.Size = int64(len(e.Body))
		if e.Header.ModTime.IsZero() {
			e.Header.ModTime = Time()
		}
		must(t, w.WriteHeader(&e.Header))
		_, err := w.Write([]byte(e.Body))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

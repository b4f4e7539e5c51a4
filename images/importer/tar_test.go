package importer_test

import (
	"archive/tar"
	"bytes"
	"testing"
)

// entry is one entry of a test's archive.
type entry struct {
	h    tar.Header
	body string
}

func reg(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

func dir(name string) entry {
	return entry{h: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func symlink(name, to string) entry {
	return entry{h: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}}
}

func hardlink(name, to string) entry {
	return entry{h: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.h.Size = int64(len(e.body))
		if e.h.ModTime.IsZero() {
			e.h.ModTime = fixedTime
		}
		must(t, w.WriteHeader(&e.h))
		_, err := w.Write([]byte(e.body))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

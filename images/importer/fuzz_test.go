package importer_test

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/importer/imagetest"
)

// FuzzTar imports anything: it must end, write nothing outside of its tree, and what it takes must
// have the digest it says.
func FuzzTar(f *testing.F) {
	f.Add(imagetest.Archive(f, imagetest.Dir("etc"), imagetest.File("etc/x", "content"), imagetest.Symlink("l", "etc"), imagetest.Hardlink("h", "etc/x")))
	f.Add(imagetest.Archive(f, imagetest.File("../x", "")))
	f.Add(imagetest.Archive(f, imagetest.Symlink("out", "/"), imagetest.File("out/x", "")))
	f.Add(imagetest.Archive(f, imagetest.File("x", "y").With(func(h *tar.Header) {
		h.PAXRecords = map[string]string{
			"SCHILY.xattr.user.a": "b", "SCHILY.xattr.trusted.overlay.opaque": "y",
			"SCHILY.acl.access": "user::rw-,user:1000:r--,group::r--,mask::r--,other::---",
		}
	})))
	f.Add(imagetest.Archive(f, imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}}, imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}))
	// GNU tar's own sparse files.
	src := f.TempDir()
	must(f, os.WriteFile(filepath.Join(src, "sparse"), []byte("x"), 0o600))
	must(f, os.Truncate(filepath.Join(src, "sparse"), 200<<10))
	for _, format := range []string{"--format=gnu", "--format=pax", "--sparse-version=0.0", "--sparse-version=0.1"} {
		b, err := exec.Command("tar", "-C", src, "--sparse", format, "-c", ".").Output()
		must(f, err)
		f.Add(b)
	}
	fuzzStore := newFuzzStore(f)
	f.Fuzz(func(t *testing.T, b []byte) { importAnything(t, fuzzStore, b) })
}

// FuzzTarEntries makes archives whose headers are sound of any names, links
// and types: each line of names is one entry, "name" or "name>link".
func FuzzTarEntries(f *testing.F) {
	f.Add("etc\netc/x\nl>etc\nl/x\nh>etc/x", []byte("50201"))
	f.Add("a>.\na/b>/\na/b/etc\n../x\n/y", []byte("22000"))
	f.Add("x\nx\nx>x\nx/y\nx", []byte("05215"))
	fuzzStore := newFuzzStore(f)
	f.Fuzz(func(t *testing.T, names string, types []byte) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i, line := range strings.Split(names, "\n") {
			name, link, _ := strings.Cut(line, ">")
			h := tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: link, Mode: 0o755, ModTime: imagetest.Time(), Format: tar.FormatGNU}
			if i < len(types) {
				h.Typeflag = types[i]
			}
			if w.WriteHeader(&h) != nil {
				return
			}
		}
		if w.Close() == nil {
			importAnything(t, fuzzStore, b.Bytes())
		}
	})
}

func newFuzzStore(f *testing.F) *images.Store {
	f.Helper()
	// One store for all: the time of a run goes into archives.
	store, err := images.Open(filepath.Join(f.TempDir(), "guard", "images"))
	must(f, err)
	return store
}

func importAnything(t *testing.T, store *images.Store, b []byte) {
	t.Helper()
	o := importer.Options{Stdin: bytes.NewReader(b), MaxBytes: 1 << 20, MaxSize: 8 << 20}
	v, _, err := importer.Import(t.Context(), store, "lab", "-", o)
	if err != nil {
		return
	}
	if err := store.Verify(t.Context(), v.Layers[0].Digest, nil); err != nil {
		t.Fatal(err)
	}
	guard, err := os.ReadDir(filepath.Dir(store.Dir()))
	if err != nil || len(guard) != 1 {
		t.Fatalf("beside the store: %v, %v", guard, err)
	}
}

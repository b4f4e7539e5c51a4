package importer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/importer/imagetest"
)

func compress(t *testing.T, kind string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var err error
	switch kind {
	case "gzip":
		w := gzip.NewWriter(&out)
		_, err = w.Write(b)
		err = errors.Join(err, w.Close())
	case "zstd":
		var w *zstd.Encoder
		w, err = zstd.NewWriter(&out)
		must(t, err)
		_, err = w.Write(b)
		err = errors.Join(err, w.Close())
	case "xz":
		var w *xz.Writer
		w, err = xz.NewWriter(&out)
		must(t, err)
		_, err = w.Write(b)
		err = errors.Join(err, w.Close())
	default:
		return b
	}
	must(t, err)
	return out.Bytes()
}

// An archive cut off anywhere is an error, never half an image; one with a flipped bit is never
// a different image without a word where a checksum could tell.
func TestTruncatedAndCorrupt(t *testing.T) {
	noise := make([]byte, 100<<10)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	whole := imagetest.Archive(t, imagetest.Dir("etc"), imagetest.File("etc/noise", string(noise)), imagetest.File("etc/last", strings.Repeat("x", 512)))
	for _, kind := range []string{"tar", "gzip", "zstd", "xz"} {
		t.Run(kind, func(t *testing.T) {
			s := openStore(t)
			packed := compress(t, kind, whole)
			try := func(b []byte) error {
				_, _, err := importer.Import(t.Context(), s, "lab", "-", importer.Options{Stdin: bytes.NewReader(b)})
				return err
			}
			cuts := []int{0, 1, 5, 100, 511, 512, 1024, 1536, len(packed) / 2, len(packed) - 2000, len(packed) - 1537, len(packed) - 1536, len(packed) - 1025, len(packed) - 1024}
			if kind != "tar" { // of the end mark of a plain one, the first half is enough
				cuts = append(cuts, len(packed)-8, len(packed)-1)
			}
			for _, n := range cuts {
				if err := try(packed[:max(0, min(n, len(packed)))]); err == nil {
					t.Errorf("cut at %d of %d: imported", n, len(packed))
				}
			}
			if kind != "tar" {
				for _, at := range []int{len(packed) / 3, len(packed) - 6} {
					bad := bytes.Clone(packed)
					bad[at] ^= 0x10
					if err := try(bad); err == nil {
						t.Errorf("bit flipped at %d of %d: imported", at, len(packed))
					}
				}
			}
			checkNothingLeft(t, s)
			must(t, try(packed))
		})
	}
}

// What is for another processor is refused, however it is spelled; what no board could run
// anyway (scripts, text) is not asked.
func TestForeignProcessor(t *testing.T) {
	head := func(data byte, machine ...byte) string {
		return "\x7fELF\x02" + string(data) + strings.Repeat("\x00", 12) + string(machine) + "rest"
	}
	for name, c := range map[string]struct{ path, content, want string }{
		"arm64":             {"usr/bin/dash", head(1, 183, 0), ""},
		"armhf":             {"bin/bash", head(1, 40, 0), ""},
		"amd64":             {"usr/bin/dash", head(1, 62, 0), "/usr/bin/dash is a program for amd64"},
		"i386":              {"bin/dash", head(1, 3, 0), "i386"},
		"riscv64":           {"usr/lib/systemd/systemd", head(1, 243, 0), "riscv64"},
		"s390x, big endian": {"usr/bin/bash", head(2, 0, 22), "EM_S390"},
		"a script":          {"usr/bin/dash", "#!/bin/sh\n" + strings.Repeat("#", 20), ""},
		"cut off":           {"usr/bin/dash", "\x7fELF", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := filepath.Join(t.TempDir(), "x.tar")
			must(t, os.WriteFile(f, imagetest.Archive(t, imagetest.File(c.path, c.content)), 0o600))
			s := openStore(t)
			_, _, err := importer.Import(t.Context(), s, "lab", f, importer.Options{})
			if c.want == "" {
				must(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			checkNothingLeft(t, s)
		})
	}
}

func TestForeignSources(t *testing.T) {
	pad := func(s string) string { return s + strings.Repeat("\x00", 600) }
	disk := make([]byte, 1024)
	disk[510], disk[511], disk[0] = 0x55, 0xaa, 0xeb
	for name, c := range map[string]struct{ content, want string }{
		"empty":         {"", "it is empty"},
		"text":          {strings.Repeat("hello\n", 200), "it is neither a tarball nor a disk image"},
		"bzip2":         {pad("BZh9"), "it is a bzip2 file: rubus takes"},
		"zip":           {pad("PK\x03\x04"), "the zip file is damaged or cut off"},
		"disk image":    {string(disk), "no root file system is in it"},
		"squashfs":      {pad("hsqs"), "it is a squashfs image"},
		"gzipped text":  {string(compress(t, "gzip", []byte("hello"))), "what is compressed with gzip in it is neither a tarball nor a disk image"},
		"not really xz": {pad("\xfd7zXZ\x00"), "xz"},
	} {
		t.Run(name, func(t *testing.T) {
			f := filepath.Join(t.TempDir(), "x.tar")
			must(t, os.WriteFile(f, []byte(c.content), 0o600))
			s := openStore(t)
			_, _, err := importer.Import(t.Context(), s, "lab", f, importer.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			checkNothingLeft(t, s)
		})
	}
	s := openStore(t)
	noEntries := filepath.Join(t.TempDir(), "none.tar")
	must(t, os.WriteFile(noEntries, imagetest.Archive(t), 0o600))
	for _, bad := range []string{"/dev/null", "/no/such/file", t.TempDir(), noEntries} {
		if _, _, err := importer.Import(t.Context(), s, "lab", bad, importer.Options{}); err == nil {
			t.Errorf("imported %s", bad)
		}
	}
	for _, bad := range []string{"lab@3", "LAB", "../x"} {
		if _, _, err := importer.Import(t.Context(), s, bad, t.TempDir(), importer.Options{}); err == nil {
			t.Errorf("imported as %q", bad)
		}
	}
	checkNothingLeft(t, s)
}

// A small file that unpacks to a big one stops at the limit, or at the space
// that stays free.
func TestBombs(t *testing.T) {
	bomb := compress(t, "zstd", imagetest.Archive(t, imagetest.File("etc/bomb", strings.Repeat("bomb", 32<<20))))
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	s := openStore(t)
	_, _, err := importer.Import(t.Context(), s, "lab", "-", importer.Options{Stdin: bytes.NewReader(bomb), MaxBytes: 10 << 20})
	if !errors.Is(err, importer.ErrTooBig) {
		t.Errorf("over the limit: %v", err)
	}
	checkNothingLeft(t, s)
	// A file that claims to be larger than any disk, without content.
	huge := imagetest.File("etc/huge", "")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	huge.Header.Size = 1 << 50
	must(t, w.WriteHeader(&huge.Header))
	if _, _, err := importer.Import(t.Context(), s, "lab", "-", importer.Options{Stdin: &b}); !errors.Is(err, importer.ErrTooBig) {
		t.Errorf("a file of 1 PiB: %v", err)
	}
	checkNothingLeft(t, s)

	// What is seen not to fit is not begun.
	large := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.Mkdir(large, 0o755), os.WriteFile(filepath.Join(large, "f"), bytes.Repeat([]byte("x"), 60<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(t.TempDir(), "large.tar")
	if err := os.WriteFile(tarball, imagetest.Archive(t, imagetest.File("etc/x", strings.Repeat("x", 60<<20))), 0o600); err != nil {
		t.Fatal(err)
	}

	inSmallStore(t, 80, func(s *images.Store, mnt string) {
		reserve := int64(40 << 20)
		_, _, err := importer.Import(t.Context(), s, "lab", "-", importer.Options{Stdin: bytes.NewReader(bomb), Reserve: reserve})
		if !errors.Is(err, importer.ErrNoSpace) {
			t.Errorf("into the reserve: %v", err)
		}
		checkNothingLeft(t, s)
		for _, source := range []string{large, tarball} {
			o := importer.Options{Reserve: reserve, Progress: func(importer.Event) {}}
			_, _, err := importer.Import(t.Context(), s, "lab", source, o)
			if !errors.Is(err, importer.ErrNoSpace) || source == tarball && !strings.Contains(err.Error(), "it has about 60 MiB") {
				t.Errorf("%s: %v", source, err)
			}
			checkNothingLeft(t, s)
		}
		// Nothing is left, so a small one fits.
		if _, _, err := importer.Import(t.Context(), s, "lab", "-", importer.Options{Stdin: bytes.NewReader(imagetest.Archive(t, imagetest.File("etc/x", "x"))), Reserve: reserve}); err != nil {
			t.Errorf("after a refused one: %v", err)
		}
	})
}

// A packed disk image that unpacks to more than anybody has is given up at the limit, however it is packed, and
// at the space that stays free; a zip file that lies about the size, too.
func TestPackedImageBombs(t *testing.T) {
	head := make([]byte, 1<<20)
	head[0], head[510], head[511] = 0xeb, 0x55, 0xaa
	bomb := filepath.Join(t.TempDir(), "bomb.img")
	f, err := os.Create(bomb)
	must(t, err)
	_, err = f.Write(head)
	must(t, err)
	must(t, f.Truncate(96<<20)) // zeros, which take no space
	must(t, f.Close())
	forms := packed(t, bomb)
	delete(forms, "disk image")
	lie := filepath.Join(t.TempDir(), "lie.img.zip")
	b, err := os.ReadFile(forms["disk image, zip"])
	must(t, err)
	// The size that the directory at its end says: PKWARE's APPNOTE.TXT, 4.3.12.
	at := bytes.LastIndex(b, []byte("PK\x01\x02")) + 24
	copy(b[at:], []byte{0, 0, 16, 0})
	must(t, os.WriteFile(lie, b, 0o600))
	s := openStore(t)
	for format, file := range forms {
		_, _, err := importer.Import(t.Context(), s, "bomb", file, importer.Options{MaxSize: 8 << 20})
		if !errors.Is(err, importer.ErrTooBig) || !strings.Contains(err.Error(), "the disk image has more than 8 MiB") {
			t.Errorf("%s: %v", format, err)
		}
		checkNothingLeft(t, s)
	}
	if _, _, err := importer.Import(t.Context(), s, "bomb", lie, importer.Options{}); err == nil || !strings.Contains(err.Error(), "zip") {
		t.Errorf("a zip file that lies: %v", err)
	}
	// What is no zeros takes space: it ends before the reserve.
	full := compress(t, "zstd", append(head, bytes.Repeat([]byte("bomb"), 24<<20)...))
	inSmallStore(t, 80, func(s *images.Store, mnt string) {
		_, _, err := importer.Import(t.Context(), s, "bomb", "-", importer.Options{Stdin: bytes.NewReader(full), Reserve: 40 << 20})
		if !errors.Is(err, importer.ErrNoSpace) {
			t.Errorf("into the reserve: %v", err)
		}
		checkNothingLeft(t, s)
	})
}

// The parts of one sentence apart make two notes; a wrong root is noticed.
func TestNotesOfARootBelow(t *testing.T) {
	_, rep := doImport(t, openStore(t), "-", importer.Options{Stdin: bytes.NewReader(imagetest.Archive(t, imagetest.File("rootfs/etc/passwd", "")))})
	if notes := strings.Join(rep.Notes, "\n"); !strings.Contains(notes, `a directory "rootfs": does the root lie below it?`) {
		t.Errorf("notes %q", notes)
	}
	_, rep = doImport(t, openStore(t), "-", importer.Options{Stdin: bytes.NewReader(imagetest.Archive(t,
		imagetest.Dir("./").With(func(h *tar.Header) { h.Mode = 0o700 }), imagetest.Dir("etc")))})
	if notes := strings.Join(rep.Notes, "\n"); !strings.Contains(notes, "the root directory has mode 0700") {
		t.Errorf("notes %q", notes)
	}
}

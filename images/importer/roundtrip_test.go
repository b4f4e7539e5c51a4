package importer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/importer"
	"rubus/images/importer/imagetest"
	"rubus/images/internal/mounttest"
)

func openStore(t testing.TB) *images.Store {
	t.Helper()
	s, err := images.Open(filepath.Join(t.TempDir(), "images"))
	must(t, err)
	return s
}

func doImport(t testing.TB, s *images.Store, source string, o importer.Options) (images.Version, importer.Report) {
	t.Helper()
	v, rep, err := importer.Import(t.Context(), s, "lab", source, o)
	must(t, err)
	return v, rep
}

func top(s *images.Store, v images.Version) string {
	return s.LayerDir(v.Layers[len(v.Layers)-1].Digest)
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out.String())
	}
}

func TestDirectory(t *testing.T) {
	src := filepath.Join(t.TempDir(), "root")
	must(t, os.Mkdir(src, 0o755))
	makeNasty(t, src, nasty{xattrs: true, longNames: true, oldTimes: true, sparse: true, linkedFifos: true})
	want := describe(t, src)
	s := openStore(t)
	v, rep := doImport(t, s, src, importer.Options{Message: "hello"})
	sameTree(t, want, describe(t, top(s, v)))
	if got := diskUsage(t, filepath.Join(top(s, v), "sparse")); got > 1<<20 {
		t.Errorf("the sparse file takes %d bytes on the disk", got)
	}
	if got := diskUsage(t, filepath.Join(top(s, v), "zeros written")); got > 256<<10 {
		t.Errorf("written zeros take %d bytes on the disk", got)
	}
	if v.Ref != (imageref.Ref{Name: "lab", Version: 1}) || v.Boot != images.BootFirmware || v.Message != "hello" || v.Source != src || rep.Shared {
		t.Errorf("version %+v, report %+v", v, rep)
	}
	wantNodesNoted(t, rep)
	// The digest computed while writing is that of what lies on the disk.
	must(t, s.Verify(t.Context(), v.Layers[0].Digest, nil))
	// The same again is the same layer.
	v2, rep2 := doImport(t, s, src, importer.Options{})
	if v2.Ref.Version != 2 || v2.Layers[0] != v.Layers[0] || !rep2.Shared {
		t.Errorf("second import: %+v, shared %v", v2, rep2.Shared)
	}
}

// wantNodesNoted wants the nasty tree's device nodes noted, and nothing else.
func wantNodesNoted(t *testing.T, rep importer.Report) {
	t.Helper()
	if len(rep.Notes) != 1 || !strings.Contains(rep.Notes[0], `device nodes outside of /dev were kept`) || !strings.HasSuffix(rep.Notes[0], `: "disk", "null"`) {
		t.Errorf("notes: %q", rep.Notes)
	}
}

// Archives of GNU tar in every format give the tree that it extracts itself.
func TestTarballs(t *testing.T) {
	full := nasty{xattrs: true, longNames: true, oldTimes: true, sparse: true}
	for name, c := range map[string]struct {
		tree nasty
		args []string
		pack string
	}{
		"pax":         {full, []string{"--format=pax", "--xattrs", "--xattrs-include=*", "--acls", "--sparse"}, ""},
		"pax 0.0":     {nasty{sparse: true}, []string{"--format=pax", "--sparse", "--sparse-version=0.0"}, "zstd"},
		"pax 0.1":     {nasty{sparse: true}, []string{"--format=pax", "--sparse", "--sparse-version=0.1"}, "gzip"},
		"gnu":         {nasty{longNames: true, oldTimes: true, sparse: true}, []string{"--format=gnu", "--sparse"}, "gzip"},
		"gnu, xz":     {nasty{longNames: true}, []string{"--format=gnu"}, "xz"},
		"ustar":       {nasty{}, []string{"--format=ustar"}, ""},
		"pax, zstd":   {nasty{xattrs: true}, []string{"--format=pax", "--xattrs", "--xattrs-include=*", "--acls"}, "zstd"},
		"numeric pax": {nasty{xattrs: true}, []string{"--format=pax", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src, ball := filepath.Join(dir, "root"), filepath.Join(dir, "archive")
			must(t, os.Mkdir(src, 0o755))
			makeNasty(t, src, c.tree)
			if name == "ustar" {
				// Its owners have seven octal digits.
				must(t, os.Lchown(filepath.Join(src, "etc/shadow"), 1000, 42))
			}
			want := describe(t, src)
			run(t, "tar", append(c.args, "-C", src, "-cf", ball, ".")...)
			if c.pack != "" {
				run(t, c.pack, "-q1", ball)
				ball += map[string]string{"gzip": ".gz", "xz": ".xz", "zstd": ".zst"}[c.pack]
			}
			// The content tells what it is, not the name.
			odd := filepath.Join(dir, "download")
			must(t, os.Rename(ball, odd))
			s := openStore(t)
			v, rep := doImport(t, s, odd, importer.Options{})
			sameTree(t, want, describe(t, top(s, v)))
			wantNodesNoted(t, rep)
			must(t, s.Verify(t.Context(), v.Layers[0].Digest, nil))
			if c.tree.xattrs {
				// A directory and its archive are the same layer.
				fromDir, rep := doImport(t, s, src, importer.Options{})
				if fromDir.Layers[0].Digest != v.Layers[0].Digest || !rep.Shared {
					t.Errorf("directory and archive have other digests")
				}
			}
		})
	}
}

func TestStdin(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	tar, err := exec.Command("tar", "-C", dir, "-cz", ".").Output()
	must(t, err)
	v, rep := doImport(t, openStore(t), "-", importer.Options{Stdin: bytes.NewReader(tar)})
	if rep.Format != "tar, gzip" || v.Source != "-" {
		t.Errorf("format %q, source %q", rep.Format, v.Source)
	}
}

// A pipe that stays silent doesn't keep an import from ending.
func TestCanceledWhileWaiting(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	defer r.Close()
	s := openStore(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("that is enough")
	_, err = w.Write(imagetest.Archive(t, imagetest.File("etc/x", "x"))[:700])
	must(t, err)
	o := importer.Options{Stdin: r, Progress: func(importer.Event) { cancel(why) }}
	_, _, err = importer.Import(ctx, s, "lab", "-", o)
	if !errors.Is(err, why) {
		t.Fatalf("error %v, want %v", err, why)
	}
	checkNothingLeft(t, s)
}

func checkNothingLeft(t testing.TB, s *images.Store) {
	t.Helper()
	for _, d := range []string{"tmp", "layers", "tags"} {
		list, err := os.ReadDir(filepath.Join(s.Dir(), d))
		if err != nil || len(list) > 0 {
			t.Errorf("left in %s: %v, %v", d, list, err)
		}
	}
}

// inSmallStore calls f with a store on a file system of its own, of so many MiB, at mnt.
func inSmallStore(t *testing.T, size int, f func(s *images.Store, mnt string)) {
	t.Helper()
	mnt := t.TempDir()
	mounttest.Run(t, func() {
		if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
			t.Errorf("mounting a small file system: %v", err)
			return
		}
		s, err := images.Open(filepath.Join(mnt, "images"))
		if err != nil {
			t.Error(err)
			return
		}
		f(s, mnt)
	})
}

// A layer on a base: whiteouts stay, boot files are found in the base.
func TestStacked(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	base := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(base, "boot/firmware"), 0o755))
	must(t, os.WriteFile(filepath.Join(base, "boot/firmware/start4.elf"), nil, 0o644))
	v1, _ := doImport(t, s, base, importer.Options{})
	over := t.TempDir()
	must(t, unix.Mknod(filepath.Join(over, "gone"), unix.S_IFCHR, 0))
	v2, rep := doImport(t, s, over, importer.Options{Base: &v1, NoTag: true})
	if len(v2.Layers) != 2 || v2.Layers[0] != v1.Layers[0] || v2.Boot != images.BootFirmware || len(rep.Notes) > 0 {
		t.Errorf("stacked version %+v, notes %q", v2, rep.Notes)
	}
	if !strings.Contains(describe(t, top(s, v2))["/gone"], "device 0") {
		t.Error("the whiteout was lost")
	}
	if tags, err := s.Tags(); err != nil || tags["lab"] != 1 {
		t.Errorf("tags %v, %v", tags, err)
	}
}

func TestBoot(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string
		note  string
	}{
		"firmware":      {[]string{"boot/firmware/config.txt", "boot/vmlinuz-6"}, images.BootFirmware, ""},
		"old firmware":  {[]string{"boot/start.elf", "boot/kernel7.img"}, images.BootPlain, ""},
		"only a kernel": {[]string{"boot/vmlinuz-6.1"}, images.BootPlain, "none of the Pi's firmware"},
		"empty dir":     {[]string{"boot/firmware/x", "boot/bootcode.bin"}, images.BootPlain, ""},
		"nothing":       {[]string{"etc/passwd"}, images.BootPlain, "no boot files"},
	} {
		t.Run(name, func(t *testing.T) {
			entries := []imagetest.Entry{imagetest.Dir("etc")}
			for _, f := range c.files {
				entries = append(entries, imagetest.File(f, ""))
			}
			v, rep := doImport(t, openStore(t), "-", importer.Options{Stdin: bytes.NewReader(imagetest.Archive(t, entries...))})
			if notes := strings.Join(rep.Notes, "\n"); v.Boot != c.want || !strings.Contains(notes, c.note) || (c.note == "") != (notes == "") {
				t.Errorf("boot %q, notes %q", v.Boot, notes)
			}
		})
	}
}

package oci_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/importer"
	"rubus/images/oci"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func store(t testing.TB) *images.Store {
	t.Helper()
	s, err := images.Open(filepath.Join(t.TempDir(), "images"))
	must(t, err)
	return s
}

type entry struct {
	name, body, link string
	flag             byte
	mode             int64
}

// layer makes a stream of entries, as container tools write them.
func layer(t testing.TB, entries ...entry) importer.Stream {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := tar.Header{Typeflag: e.flag, Name: e.name, Linkname: e.link, Mode: e.mode, Size: int64(len(e.body)), ModTime: time.Unix(1e9, 123456789), Format: tar.FormatPAX}
		if e.flag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if e.mode == 0 {
			h.Mode = 0o755
		}
		if e.name == "usr/bin/ping" {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
		}
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, e.body)
		must(t, err)
	}
	must(t, w.Close())
	return importer.Stream{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }}
}

// stacked has one of everything that layers do to each other.
func stacked(t testing.TB) []importer.Stream {
	t.Helper()
	dir := func(name string, mode int64) entry { return entry{name: name, flag: tar.TypeDir, mode: mode} }
	return []importer.Stream{
		layer(t, dir("./", 0o755), dir("tmp", 0o1777), dir("usr", 0), dir("usr/bin", 0), entry{name: "bin", flag: tar.TypeSymlink, link: "usr/bin"},
			entry{name: "usr/bin/ping", body: "ping"}, entry{name: "usr/bin/sudo", body: "sudo", mode: 0o4755}, entry{name: "usr/bin/sudoedit", flag: tar.TypeLink, link: "usr/bin/sudo"},
			dir("etc", 0o750), entry{name: "etc/gone", body: "x"}, entry{name: "etc/kept", body: "1"},
			dir("old", 0), entry{name: "old/hidden", body: "x"}, dir("new", 0), entry{name: "new/hidden", body: "x"},
			dir("boot", 0), dir("boot/firmware", 0), entry{name: "boot/firmware/config.txt", body: "arm_64bit=1\n"}),
		// No directory is said: they stay as below. The markers come first, and last.
		layer(t, entry{name: "etc/.wh.gone"}, entry{name: "etc/kept", body: "2"}, entry{name: "bin/tool", body: "through the link"},
			dir("old", 0), entry{name: "old/fresh", body: "y"}, entry{name: "old/.wh..wh..opq"},
			entry{name: ".wh.new"}, dir("new", 0o700), entry{name: "new/fresh", body: "y"}, entry{name: "tmp/file", body: "t"}, entry{name: "etc/.wh.never-was"}),
		layer(t), // empty, as "RUN true" makes it
	}
}

func put(t testing.TB, s *images.Store, layers []importer.Stream) images.Version {
	t.Helper()
	v, rep, err := importer.ImportStreams(t.Context(), s, "lab", "test", "container image", layers, importer.Options{})
	must(t, err)
	if len(rep.Notes) > 0 {
		t.Errorf("notes %q", rep.Notes)
	}
	for _, l := range v.Layers {
		must(t, s.Verify(t.Context(), l.Digest, nil))
	}
	return v
}

// What a kernel shows of the layers is what their tarballs mean.
func TestLayersMerge(t *testing.T) {
	s := store(t)
	v := put(t, s, stacked(t))
	if len(v.Layers) != 2 || v.Boot != images.BootFirmware {
		t.Fatalf("%d layers, boot files in %q", len(v.Layers), v.Boot)
	}
	at := t.TempDir()
	must(t, unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(s.LayerDirs(v), ":")))
	defer func() { must(t, unix.Unmount(at, 0)) }()
	for name, want := range map[string]string{
		"etc/kept": "2", "bin/tool": "through the link", "usr/bin/tool": "through the link", "old/fresh": "y", "new/fresh": "y",
		"tmp/file": "t", "usr/bin/sudoedit": "sudo", "boot/firmware/config.txt": "arm_64bit=1\n",
	} {
		if got, err := os.ReadFile(filepath.Join(at, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"etc/gone", "old/hidden", "new/hidden", "etc/never-was", "etc/.wh.gone", "old/.wh..wh..opq"} {
		if _, err := os.Lstat(filepath.Join(at, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	for name, want := range map[string]os.FileMode{"tmp": 0o777 | os.ModeSticky, "etc": 0o750, "new": 0o700, "usr/bin/sudo": 0o755 | os.ModeSetuid} {
		if st, err := os.Stat(filepath.Join(at, name)); err != nil || st.Mode()&^os.ModeDir != want {
			t.Errorf("%s: %v, %v; want %v", name, st.Mode(), err, want)
		}
	}
	// Nobody made it up: nothing hides what is not there.
	if list, err := filepath.Glob(s.LayerDirs(v)[0] + "/etc/never-was"); err != nil || len(list) > 0 {
		t.Errorf("a whiteout of nothing: %v, %v", list, err)
	}
}

// registryAt runs Debian's docker-registry until the test ends. scripts/peer-tools
// has it, from the network the first time: scripts/test calls it before.
func registryAt(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(config, []byte(fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: \"127.0.0.1:0\"}\n", dir)), 0o600))
	scripts := cmp.Or(os.Getenv("RUBUS_SCRIPTS"), "../../scripts")
	tools, err := exec.Command(filepath.Join(scripts, "peer-tools"), "registry").Output()
	must(t, err)
	c := exec.Command(filepath.Join(strings.TrimSpace(string(tools)), "usr/bin/docker-registry"), "serve", config)
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	said, err := c.StderrPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), `msg="listening on `); ok {
			go func() { _, _ = io.Copy(io.Discard, said) }() // until its end
			addr, _, _ := strings.Cut(at, `"`)
			return addr
		}
	}
	t.Fatalf("the registry ended: %v", lines.Err())
	return ""
}

// A version that goes out comes back with the same layers, whichever way; and going out
// again it is the same image.
func TestRoundTrip(t *testing.T) {
	s := store(t)
	v := put(t, s, stacked(t))
	dir := t.TempDir()
	digests := map[string]bool{}
	for _, place := range []string{"docker://" + registryAt(t) + "/pis/lab:1", "oci:" + filepath.Join(dir, "layout"), "docker-archive:" + filepath.Join(dir, "lab.tar")} {
		e, err := oci.Export(t.Context(), s, v, place, oci.Options{Platform: "linux/arm64"}, nil)
		must(t, err)
		digests[e.Digest] = true
		img, err := oci.Open(t.Context(), place, oci.Options{})
		must(t, err)
		layers, err := img.Layers()
		must(t, err)
		other := store(t)
		back := put(t, other, layers)
		for i, l := range back.Layers {
			if l.Digest != v.Layers[i].Digest {
				t.Errorf("%s: layer %d is %.12s, was %.12s", place, i, l.Digest, v.Layers[i].Digest)
			}
		}
		// Once more, and nothing is read: they are known by what they are made of.
		for i := range layers {
			layers[i].Open = func() (io.ReadCloser, error) { return nil, fmt.Errorf("layer %d was read again", i) }
		}
		again, rep, err := importer.ImportStreams(t.Context(), other, "lab", "test", "container image", layers, importer.Options{})
		must(t, err)
		if !rep.Shared || again.Layers[1] != back.Layers[1] {
			t.Errorf("shared %v, %v", rep.Shared, again.Layers)
		}
	}
	if len(digests) != 1 {
		t.Errorf("%d images of one version: %v", len(digests), digests)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("beside what was written: %v, %v", left, err)
	}
	if _, err := oci.Export(t.Context(), s, v, "oci:"+filepath.Join(dir, "layout"), oci.Options{Platform: "linux/arm64"}, nil); err == nil {
		t.Error("a directory that was there is written over")
	}
}

// What an export says its image is for is what was asked for, variant and all, and an import finds it by that.
func TestExportPlatform(t *testing.T) {
	s := store(t)
	v := put(t, s, stacked(t))
	for platform, want := range map[string]string{
		"linux/arm64":  "",
		"linux/arm":    "",
		"linux/arm/v6": "",
		"windows/arm":  "is no platform",
		"linux":        "is no platform",
		"linux/":       "is no platform",
		"arm64":        "is no platform",
		"a/b/c/d":      "is no platform",
	} {
		place := "oci:" + filepath.Join(t.TempDir(), "layout")
		e, err := oci.Export(t.Context(), s, v, place, oci.Options{Platform: platform}, nil)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", platform, err, want)
			}
			continue
		}
		must(t, err)
		if e.Platform != platform {
			t.Errorf("%s became %s", platform, e.Platform)
		}
		_, err = oci.Open(t.Context(), place, oci.Options{Platform: platform})
		must(t, err)
	}
}

// Images that no Pi runs, or that are not what they say, are refused and leave nothing.
func TestRefused(t *testing.T) {
	s := store(t)
	v := put(t, s, stacked(t))
	dir := t.TempDir()
	_, err := oci.Export(t.Context(), s, v, "oci:"+dir+"/amd64", oci.Options{Platform: "linux/amd64"}, nil)
	must(t, err)
	if _, err := oci.Open(t.Context(), "oci:"+dir+"/amd64", oci.Options{}); err == nil || !strings.Contains(err.Error(), "only for linux/amd64") {
		t.Errorf("an image for a PC: %v", err)
	}
	_, err = oci.Export(t.Context(), s, v, "oci:"+dir+"/damaged", oci.Options{Platform: "linux/arm64"}, nil)
	must(t, err)
	blobs, err := filepath.Glob(dir + "/damaged/blobs/sha256/*")
	must(t, err)
	biggest := blobs[0]
	for _, b := range blobs {
		if size(t, b) > size(t, biggest) {
			biggest = b
		}
	}
	b, err := os.ReadFile(biggest)
	must(t, err)
	b[len(b)/2] ^= 1
	must(t, os.WriteFile(biggest, b, 0o600))
	img, err := oci.Open(t.Context(), "oci:"+dir+"/damaged", oci.Options{})
	if err == nil {
		var layers []importer.Stream
		if layers, err = img.Layers(); err == nil {
			_, _, err = importer.ImportStreams(t.Context(), s, "damaged", "test", "container image", layers, importer.Options{})
		}
	}
	if err == nil {
		t.Error("a damaged blob was taken")
	}
	for name, entries := range map[string][]entry{
		"climbs out":            {{name: "../../etc/passwd", body: "x"}},
		"whiteout climbs out":   {{name: "../.wh.etc"}},
		"link climbs out":       {{name: "a", flag: tar.TypeLink, link: "../../etc/passwd"}},
		"hides everything":      {{name: ".wh..wh..opq"}},
		"writes through a link": {{name: "out", flag: tar.TypeSymlink, link: "/"}, {name: "out/x", body: "x"}},
	} {
		layers := []importer.Stream{stacked(t)[0], layer(t, entries...)}
		if _, _, err := importer.ImportStreams(t.Context(), s, "hostile", "test", "container image", layers, importer.Options{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := s.Resolve(imageref.Ref{Name: "hostile"}); err == nil {
		t.Error("a version of a refused image")
	}
	if left, err := os.ReadDir(filepath.Join(s.Dir(), "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

func size(t testing.TB, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	must(t, err)
	return st.Size()
}

// Boot files and modules come from another root, without touching the layers below.
func TestBootFrom(t *testing.T) {
	s := store(t)
	root := layer(t, entry{name: "usr/lib/x", body: "x"}, entry{name: "lib", flag: tar.TypeSymlink, link: "usr/lib"}, entry{name: "etc/hostname", body: "x"})
	donor := t.TempDir()
	for _, f := range []string{"boot/firmware/start4.elf", "boot/firmware/overlays/x.dtbo", "lib/modules/6.12/modules.dep", "etc/left-alone"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(donor, f)), 0o755))
		must(t, os.WriteFile(filepath.Join(donor, f), []byte(f), 0o644))
	}
	o := importer.Options{}
	v, _, err := importer.ImportStreams(t.Context(), s, "lab", "test", "container image", []importer.Stream{root}, o)
	must(t, err)
	o.Finish = func(ctx context.Context, top *importer.Top) error { return top.BootFrom(ctx, []string{donor}) }
	with, _, err := importer.ImportStreams(t.Context(), s, "lab", "test", "container image", []importer.Stream{root}, o)
	must(t, err)
	if len(with.Layers) != 2 || with.Layers[0] != v.Layers[0] || with.Boot != images.BootFirmware {
		t.Fatalf("%+v", with)
	}
	top := s.LayerDir(with.Layers[1].Digest)
	for _, f := range []string{"boot/firmware/start4.elf", "boot/firmware/overlays/x.dtbo", "usr/lib/modules/6.12/modules.dep"} {
		if b, err := os.ReadFile(filepath.Join(top, f)); err != nil || !strings.HasSuffix(f, string(b[len(b)-5:])) {
			t.Errorf("%s: %q, %v", f, b, err)
		}
	}
	for _, f := range []string{"etc", "lib"} {
		if _, err := os.Lstat(filepath.Join(top, f)); err == nil {
			t.Errorf("%s is in the layer, too", f)
		}
	}
	must(t, s.Verify(t.Context(), with.Layers[1].Digest, nil))
}

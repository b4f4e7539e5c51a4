package importer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/importer/imagetest"
)

// An image of each release family gives the tree that its boards see, boot
// partition in place.
func TestReleaseFamilies(t *testing.T) {
	for name, f := range imagetest.Families() {
		t.Run(name, func(t *testing.T) {
			root, boot := imagetest.Parts(t, f)
			img := imagetest.Make(t, f, root, boot)
			s := openStore(t)
			v, rep, err := importer.Import(t.Context(), s, "pios", img, importer.Options{})
			must(t, err)
			if v.Boot != f.Mount || rep.Format != "disk image" || len(rep.Notes) != 0 {
				t.Errorf("boot files in %q, format %q, notes %q", v.Boot, rep.Format, rep.Notes)
			}
			must(t, s.Verify(t.Context(), v.Layers[0].Digest, nil))
			must(t, os.CopyFS(filepath.Join(root, f.Mount), os.DirFS(boot)))
			must(t, filepath.WalkDir(filepath.Join(root, f.Mount), func(p string, _ os.DirEntry, err error) error {
				return errors.Join(err, os.Chmod(p, 0o755), os.Chtimes(p, imagetest.Whole(), imagetest.Whole()))
			}))
			must(t, os.Chtimes(filepath.Dir(filepath.Join(root, f.Mount)), imagetest.Whole(), imagetest.Whole()))
			got, want := describe(t, top(s, v)), describe(t, root)
			// mkfs makes the root directory anew.
			delete(got, "")
			delete(want, "")
			sameTree(t, want, got)
		})
	}
}

// packed makes every form in which an image is published.
func packed(t testing.TB, img string) map[string]string {
	t.Helper()
	imagetest.Tool(t, "", "xz", "-k", "-T2", "-0", img)
	imagetest.Tool(t, "", "gzip", "-k", "-1", img)
	imagetest.Tool(t, "", "zstd", "-q", "-1", img)
	imagetest.Tool(t, "", "zip", "-q", "-j", "-1", img+".zip", img)
	return map[string]string{"disk image": img, "disk image, xz": img + ".xz", "disk image, gzip": img + ".gz", "disk image, zstd": img + ".zst", "disk image, zip": img + ".zip"}
}

// However it is packed, from a file, a pipe or a web server, an image is the same
// layer, and nothing is left of it elsewhere.
func TestPackedImages(t *testing.T) {
	f := imagetest.Small()
	root, boot := imagetest.Parts(t, f)
	forms := packed(t, imagetest.Make(t, f, root, boot))
	s := openStore(t)
	first, _, err := importer.Import(t.Context(), s, "pios", forms["disk image"], importer.Options{})
	must(t, err)
	check := func(how, format, source string, o importer.Options) {
		t.Helper()
		v, rep, err := importer.Import(t.Context(), s, "pios", source, o)
		if err != nil {
			t.Errorf("%s, %s: %v", how, format, err)
			return
		}
		if rep.Format != format || v.Layers[0].Digest != first.Layers[0].Digest {
			t.Errorf("%s: format %q, want %q; layer %.12s", how, rep.Format, format, v.Layers[0].Digest)
		}
	}
	server := httptest.NewTLSServer(http.FileServer(http.Dir(filepath.Dir(forms["disk image"]))))
	defer server.Close()
	for format, file := range forms {
		sum := sumOf(t, file)
		check("file", format, file, importer.Options{SHA256: sum})
		in, err := os.Open(file)
		must(t, err)
		check("pipe", format, "-", importer.Options{Stdin: in, SHA256: sum})
		in.Close()
		check("https", format, server.URL+"/"+filepath.Base(file), importer.Options{SHA256: sum, Client: server.Client()})
	}
	for _, file := range []string{forms["disk image"], forms["disk image, xz"], forms["disk image, zip"]} {
		_, _, err = importer.Import(t.Context(), s, "other", file, importer.Options{SHA256: strings.Repeat("0", 64)})
		if wrong := new(importer.ChecksumError); !errors.As(err, &wrong) {
			t.Errorf("wrong SHA-256 of %s: %v", file, err)
		}
	}
	noUnpacked(t, s)
}

func sumOf(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return sumOfBytes(b)
}

func sumOfBytes(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// noUnpacked checks that tmp is empty.
func noUnpacked(t testing.TB, s *images.Store) {
	t.Helper()
	if left, err := os.ReadDir(filepath.Join(s.Dir(), "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// A download that breaks goes on where it was; one of something else does not.
func TestBrokenDownload(t *testing.T) {
	content := imagetest.Archive(t, imagetest.Dir("etc"), imagetest.File("etc/x", strings.Repeat("content", 100000)))
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("ETag", `"one"`)
		if r.URL.Path == "/changed" && asked%2 == 0 {
			w.Header().Set("ETag", `"two"`)
		}
		if asked%2 == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:len(content)/2])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "x.tar", time.Time{}, bytes.NewReader(content))
	}))
	defer server.Close()
	s := openStore(t)
	_, _, err := importer.Import(t.Context(), s, "lab", server.URL+"/x.tar", importer.Options{Client: server.Client()})
	must(t, err)
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, _, err := importer.Import(ctx, s, "lab", server.URL+"/changed", importer.Options{Client: server.Client()}); err == nil {
		t.Error("a file that changed was taken")
	}
	if _, _, err := importer.Import(t.Context(), s, "lab", server.URL+"/x.tar", importer.Options{}); err == nil {
		t.Error("a server with a strange certificate was trusted")
	}
	if _, _, err := importer.Import(t.Context(), s, "lab", "http://127.0.0.1:1/x.tar", importer.Options{}); err == nil || !strings.Contains(err.Error(), "use https") {
		t.Errorf("plain http: %v", err)
	}
	noUnpacked(t, s)
}

// What is no image of a root says so, and leaves nothing.
func TestRefusedImages(t *testing.T) {
	f := imagetest.Small()
	root, boot := imagetest.Parts(t, f)
	img := imagetest.Make(t, f, root, boot)
	forms := packed(t, img)
	dir := t.TempDir()
	cut := func(from string, bytes int64) string {
		b, err := os.ReadFile(from)
		must(t, err)
		if bytes < 0 {
			bytes += int64(len(b))
		}
		p := filepath.Join(dir, fmt.Sprint(len(b), filepath.Base(from)))
		must(t, os.WriteFile(p, b[:bytes], 0o600))
		return p
	}
	change := func(name string, at int64, to []byte) string {
		p := filepath.Join(dir, name)
		imagetest.Tool(t, "", "cp", "--sparse=always", img, p)
		w, err := os.OpenFile(p, os.O_WRONLY, 0)
		must(t, err)
		defer w.Close()
		_, err = w.WriteAt(to, at)
		must(t, err)
		return p
	}
	rootAt := f.Start*512 + f.BootMB<<20
	empty := filepath.Join(dir, "empty.img")
	must(t, os.WriteFile(empty, nil, 0o600))
	must(t, os.Truncate(empty, 64<<20))
	imagetest.Tool(t, "label: dos\nstart=2048,type=83\n", "sfdisk", "-q", empty)
	for name, c := range map[string]struct{ source, want string }{
		"image cut off":     {cut(img, -30<<20), "cut off"},
		"xz cut off":        {cut(forms["disk image, xz"], -1000), "truncated xz data"},
		"gzip cut off":      {cut(forms["disk image, gzip"], -1000), "truncated gzip data"},
		"zstd cut off":      {cut(forms["disk image, zstd"], -1000), "truncated zstd data"},
		"zip cut off":       {cut(forms["disk image, zip"], -1000), "damaged or cut off"},
		"another root":      {change("btrfs.img", rootAt+1024, make([]byte, 2048)), `no root file system is in it that rubus could read (ext4), only partition 1 (FAT, "bootfs"), partition 2 (unknown)`},
		"no file system":    {empty, "no root file system"},
		"damaged inodes":    {change("inodes.img", rootAt+280<<10, bytes.Repeat([]byte{0xaa}, 700<<10)), "damaged"},
		"damaged boot part": {change("boot.img", f.Start*512+13, []byte{3}), "boot partition"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t)
			_, _, err := importer.Import(t.Context(), s, "pios", c.source, importer.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			checkNothingLeft(t, s)
		})
	}
}

// The root is copied while the image still comes: what this one waits for is in its first part.
func TestImageCopiedAsItComes(t *testing.T) {
	f := imagetest.Small()
	root, boot := imagetest.Parts(t, f)
	in, err := os.Open(imagetest.Make(t, f, root, boot))
	must(t, err)
	defer in.Close()
	st, err := in.Stat()
	must(t, err)
	copied := make(chan struct{})
	once := sync.OnceFunc(func() { close(copied) })
	o := importer.Options{
		Stdin: io.MultiReader(io.LimitReader(in, st.Size()-16<<20), readerFunc(func([]byte) (int, error) {
			select {
			case <-copied:
				return 0, io.EOF
			case <-t.Context().Done():
				return 0, t.Context().Err()
			}
		}), in),
		Progress: func(e importer.Event) {
			if e.Files > 5 {
				once()
			}
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, rep, err := importer.Import(ctx, openStore(t), "pios", "-", o)
	must(t, err)
	if rep.Format != "disk image" {
		t.Errorf("format %q", rep.Format)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

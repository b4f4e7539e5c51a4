package importer_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/importer/imagetest"
)

// zipped is a file in a zip file.
type zipped struct {
	name, body string
	set        func(*zip.FileHeader) // nil: nothing
}

func zipOf(t testing.TB, files ...zipped) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		if f.set == nil {
			in, err := w.CreateHeader(h)
			must(t, err)
			_, err = io.WriteString(in, f.body)
			must(t, err)
			continue
		}
		// As it is: what the header says need not be so.
		h.Method = zip.Store
		h.CRC32 = crc32.ChecksumIEEE([]byte(f.body))
		h.CompressedSize64, h.UncompressedSize64 = uint64(len(f.body)), uint64(len(f.body))
		f.set(h)
		in, err := w.CreateRaw(h)
		must(t, err)
		_, err = io.WriteString(in, f.body)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// serveZip serves content at any path, at /unknown without saying how long it is.
func serveZip(content []byte) *httptest.Server {
	return httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/unknown" {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		}
		_, _ = w.Write(content) // whoever does not want it all goes
	}))
}

// importZip imports a zip file in each of the ways in which one comes: as a file, by a pipe, from a web server
// that says how long it is, and from one that does not.
func importZip(t *testing.T, content []byte, o importer.Options, check func(how string, s *images.Store, v images.Version, rep importer.Report, err error)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pi.zip")
	must(t, os.WriteFile(file, content, 0o600))
	server := serveZip(content)
	defer server.Close()
	for _, how := range []string{file, "-", server.URL + "/known", server.URL + "/unknown"} {
		s := openStore(t)
		o.Client = server.Client()
		o.Stdin = nil
		if how == "-" {
			o.Stdin = bytes.NewReader(content)
		}
		v, rep, err := importer.Import(t.Context(), s, "lab", how, o)
		check(how, s, v, rep, err)
		noUnpacked(t, s)
	}
}

// A zip file is taken however it comes, if it is clear what in it is the image.
func TestZip(t *testing.T) {
	image := string(imagetest.Archive(t, imagetest.Dir("etc"), imagetest.File("etc/x", strings.Repeat("content", 1000))))
	outside := filepath.Join(t.TempDir(), "outside.img")
	wide := filepath.Join(t.TempDir(), "wide.zip")
	imagetest.Tool(t, image, "zip", "-q", "-fz", wide, "-") // zip64, as for images of more than 4 GiB
	zip64, err := os.ReadFile(wide)
	must(t, err)
	stored := func(*zip.FileHeader) {}
	for name, content := range map[string][]byte{
		"one image":        zipOf(t, zipped{"pi.img", image, nil}),
		"not packed":       zipOf(t, zipped{"pi.img", image, stored}),
		"the only file":    zipOf(t, zipped{"a directory/", "", nil}, zipped{"root", image, nil}),
		"beside a text":    zipOf(t, zipped{"README", "read me", nil}, zipped{"sub/PI.IMG", image, nil}),
		"made by macOS":    zipOf(t, zipped{"pi.img", image, nil}, zipped{"__MACOSX/._pi.img", "Mac OS X", nil}, zipped{"._other.img", "Mac OS X", nil}),
		"a name to beyond": zipOf(t, zipped{strings.Repeat("../", 20) + outside[1:], image, nil}),
		"an absolute name": zipOf(t, zipped{outside, image, nil}),
		"zip64":            zip64,
		"something before": append([]byte("PK\x03\x04"+strings.Repeat("x", 600)), zipOf(t, zipped{"pi.img", image, nil})...),
	} {
		t.Run(name, func(t *testing.T) {
			importZip(t, content, importer.Options{SHA256: sumOfBytes(content)}, func(how string, s *images.Store, v images.Version, rep importer.Report, err error) {
				if err != nil || rep.Format != "tar, zip" {
					t.Errorf("%s: format %q, %v", how, rep.Format, err)
					return
				}
				if got := describe(t, top(s, v))["/etc/x"]; !strings.Contains(got, "content 7000 ") {
					t.Errorf("%s: %q", how, got)
				}
			})
		})
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a file was written outside of the store")
	}
}

// One of which rubus can't tell or read the image says why, and leaves nothing.
func TestZipRefused(t *testing.T) {
	image := string(imagetest.Archive(t, imagetest.File("etc/x", strings.Repeat("content", 100000))))
	sound := zipOf(t, zipped{"pi.img", image, nil})
	secret := filepath.Join(t.TempDir(), "pi.img")
	must(t, os.WriteFile(secret, []byte(image), 0o600))
	imagetest.Tool(t, "", "zip", "-q", "-j", "-P", "secret", secret+".zip", secret)
	encrypted, err := os.ReadFile(secret + ".zip")
	must(t, err)
	flipped := bytes.Clone(sound)
	flipped[len(sound)/3] ^= 0x10
	misplaced := bytes.Clone(sound) // where its file begins: PKWARE's APPNOTE.TXT, 4.3.12
	misplaced[bytes.LastIndex(sound, []byte("PK\x01\x02"))+42] = 9
	// Names of files that are not there take no time to send, and all memory to list.
	var many bytes.Buffer
	w := zip.NewWriter(&many)
	for i := range 1 << 13 {
		_, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%01024d", i)})
		must(t, err)
	}
	must(t, w.Close())
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"nothing in it":      {zipOf(t), "the zip file holds no files"},
		"only directories":   {zipOf(t, zipped{"a/", "", nil}), "the zip file holds no files"},
		"no image":           {zipOf(t, zipped{"a", "x", nil}, zipped{"b", "x", nil}), "holds 2 files and none or several end in .img"},
		"two images":         {zipOf(t, zipped{"a.img", "x", nil}, zipped{"b.img", "x", nil}), "holds 2 files and none or several end in .img"},
		"a text":             {zipOf(t, zipped{"a.img", strings.Repeat("x", 5000), nil}), "what is compressed with zip in it is neither a tarball nor a disk image"},
		"a link":             {zipOf(t, zipped{"a.img", "/etc/passwd", func(h *zip.FileHeader) { h.SetMode(os.ModeSymlink | 0o777) }}), "holds no files"},
		"cut off":            {sound[:len(sound)-30], "damaged or cut off"},
		"cut off early":      {sound[:600], "damaged or cut off"},
		"encrypted":          {encrypted, `"pi.img" in the zip file is encrypted`},
		"deflate64":          {zipOf(t, zipped{"pi.img", image, func(h *zip.FileHeader) { h.Method = 9 }}), "packed with method 9, and rubus reads deflate"},
		"wrong checksum":     {zipOf(t, zipped{"pi.img", image, func(h *zip.FileHeader) { h.CRC32++ }}), "the zip data is corrupt"},
		"shorter than said":  {zipOf(t, zipped{"pi.img", image, func(h *zip.FileHeader) { h.UncompressedSize64++ }}), "it ends in the middle"},
		"a lie of where":     {misplaced, "the zip file is damaged"},
		"damaged":            {flipped, "the zip data is corrupt"},
		"a list for all RAM": {many.Bytes(), "its list of files has more than 8 MiB"},
		"a hostile name":     {zipOf(t, zipped{strings.Repeat("\x1b[2J", 9000) + ".img", image, func(h *zip.FileHeader) { h.Method = 9 }}), `\x1b[2J...`},
	} {
		t.Run(name, func(t *testing.T) {
			importZip(t, c.content, importer.Options{}, func(how string, s *images.Store, _ images.Version, _ importer.Report, err error) {
				if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 600 {
					t.Errorf("%s: %.1000v, want %q", how, err, c.want)
				}
				checkNothingLeft(t, s)
			})
		})
	}
	// What it should be counts first: nothing in another file is looked at.
	importZip(t, encrypted, importer.Options{SHA256: sumOfBytes(sound)}, func(how string, s *images.Store, _ images.Version, _ importer.Report, err error) {
		if wrong := new(importer.ChecksumError); !errors.As(err, &wrong) {
			t.Errorf("%s: another file: %v", how, err)
		}
		checkNothingLeft(t, s)
	})
	// More than it may have.
	noise := zipOf(t, zipped{"pi.img", noise(9 << 20), func(*zip.FileHeader) {}})
	importZip(t, noise, importer.Options{MaxSize: 8 << 20}, func(how string, s *images.Store, _ images.Version, _ importer.Report, err error) {
		if stream := strings.Contains(fmt.Sprint(err), "the zip file has more than 8 MiB"); stream != !filepath.IsAbs(how) {
			t.Errorf("%s: a large file: %v", how, err)
		}
		checkNothingLeft(t, s)
	})
}

func noise(n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return string(b)
}

// How far it is shows while a zip file comes.
func TestZipProgress(t *testing.T) {
	content := zipOf(t, zipped{"pi.img", string(imagetest.Archive(t, imagetest.File("etc/x", "content"))), nil})
	server := serveZip(content)
	defer server.Close()
	var phases []importer.Phase
	var first importer.Event
	o := importer.Options{Client: server.Client(), Progress: func(e importer.Event) {
		if len(phases) == 0 || phases[len(phases)-1] != e.Phase {
			phases = append(phases, e.Phase)
		}
		if e.Phase == importer.Fetching && first.Phase == "" {
			first = e
		}
	}}
	_, _, err := importer.Import(t.Context(), openStore(t), "lab", server.URL+"/pi.zip", o)
	must(t, err)
	got := strings.TrimPrefix(fmt.Sprint(phases), "[reading ") // if that took long enough to be told
	if want := "fetching reading syncing done]"; strings.TrimPrefix(got, "[") != want {
		t.Errorf("phases %v, want %s", got, want)
	}
	if first.Total != int64(len(content)) {
		t.Errorf("total %d of %d", first.Total, len(content))
	}
}

// The disk keeps its reserve while a zip file comes. What is unpacked of it takes its space: the image, what it
// is unpacked to and the file do not have to fit beside each other.
func TestZipSpace(t *testing.T) {
	f := imagetest.Small()
	root, boot := imagetest.Parts(t, f)
	must(t, os.WriteFile(root+"/usr/noise", []byte(noise(30<<20)), 0o644))
	img := imagetest.Make(t, f, root, boot)
	imagetest.Tool(t, "", "zip", "-q", "-j", "-1", img+".zip", img)
	content, err := os.ReadFile(img + ".zip")
	must(t, err)
	server := serveZip(content)
	defer server.Close()
	inSmallStore(t, 120, func(s *images.Store, mnt string) {
		o := importer.Options{Reserve: 100 << 20, Client: server.Client(), Stdin: bytes.NewReader(content)}
		for source, want := range map[string]string{"-": "free where the store is, and 100 MiB stay free", server.URL: "it has about 30 MiB"} {
			_, _, err := importer.Import(t.Context(), s, "lab", source, o)
			if !errors.Is(err, importer.ErrNoSpace) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, into the reserve: %v", source, err)
			}
			checkNothingLeft(t, s)
		}
		// 31 MiB packed, 41 unpacked, 41 in the layer: all three would be more than there are.
		o.Reserve = 30 << 20
		if _, _, err := importer.Import(t.Context(), s, "lab", server.URL, o); err != nil {
			t.Errorf("where two of three fit: %v", err)
		}
		noUnpacked(t, s)
	})
}

// Killed while a zip file comes: nothing is left of what came.
func TestZipKilled(t *testing.T) {
	store := filepath.Join(t.TempDir(), "images")
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), "RUBUS_IMPORT=-", "RUBUS_STORE="+store)
	in, err := c.StdinPipe()
	must(t, err)
	must(t, c.Start())
	content := zipOf(t, zipped{"pi.img", noise(24 << 20), func(*zip.FileHeader) {}})
	// More than pipes and buffers take: it is being kept.
	_, err = in.Write(content[:len(content)-1])
	must(t, err)
	if n := openDeleted(t, c.Process.Pid, store); n == 0 {
		t.Error("it keeps nothing")
	}
	must(t, c.Process.Kill())
	_ = c.Wait() // it was killed
	s, err := images.Open(store)
	must(t, err)
	checkNothingLeft(t, s)
}

// openDeleted counts what a process has open below dir without a name.
func openDeleted(t testing.TB, pid int, dir string) (n int) {
	t.Helper()
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	list, err := os.ReadDir(fds)
	must(t, err)
	for _, fd := range list {
		// One that was closed meanwhile leads nowhere.
		if to, err := os.Readlink(filepath.Join(fds, fd.Name())); err == nil && strings.HasPrefix(to, dir) && strings.HasSuffix(to, " (deleted)") {
			n++
		}
	}
	return n
}

package archive_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images/archive"
	"rubus/images/upper"
)

// small is a stream with one tree in which everything occurs, and where its last member begins.
func small(t testing.TB) (stream []byte, end int) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"a/file": "text", "b": strings.Repeat("b", 3000), "wild \xff\n=": "x"} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err == nil {
		_, err = f.WriteAt([]byte("end"), 1<<20)
		err = errors.Join(err, f.Truncate(2<<20), f.Close())
	}
	if err := errors.Join(err,
		os.Link(filepath.Join(dir, "b"), filepath.Join(dir, "c")), os.Symlink("nowhere", filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o600, 0),
		unix.Setxattr(filepath.Join(dir, "b"), "user.a=b", []byte{0, 1, 2}, 0),
		os.Chtimes(filepath.Join(dir, "b"), time.Unix(-5, 7), time.Unix(-1000, 999999999)),
	); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := archive.NewWriter(&out, archive.Head{ID: archive.NewID(), Made: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := upper.OpenPlain(dir)
	if err != nil {
		t.Fatal(err)
	}
	k, err := archive.TakeOpen(t.Context(), tree, "id", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := errors.Join(w.Document("first.json", 1), w.Tree(t.Context(), "tree", k), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), bytes.LastIndex(out.Bytes(), []byte("rubus-backup-end.json"))
}

// TestRoundTrip: names of any bytes, times before 1970, holes and attributes come back.
func TestRoundTrip(t *testing.T) {
	stream, _ := small(t)
	to := t.TempDir()
	must(t, read(t.Context(), stream, to, ""))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(to, "b"), &st))
	if st.Mtim != (unix.Timespec{Sec: -1000, Nsec: 999999999}) || st.Atim != (unix.Timespec{Sec: -5, Nsec: 7}) || st.Nlink != 2 {
		t.Errorf("b: %+v", st)
	}
	var value [8]byte
	if n, err := unix.Getxattr(filepath.Join(to, "b"), "user.a=b", value[:]); err != nil || string(value[:n]) != "\x00\x01\x02" {
		t.Errorf("attribute %q, %v", value[:max(n, 0)], err)
	}
	must(t, unix.Stat(filepath.Join(to, "holes"), &st))
	if st.Size != 2<<20 || st.Blocks*512 > 64<<10 {
		t.Errorf("holes: %d bytes in %d blocks", st.Size, st.Blocks)
	}
	if _, err := os.Stat(filepath.Join(to, "wild \xff\n=")); err != nil {
		t.Error(err)
	}
	must(t, unix.Lstat(filepath.Join(to, "sock"), &st))
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		t.Errorf("socket: mode %o", st.Mode)
	}
}

// TestDamaged: a stream that is cut off anywhere, or of which a bit is another, is not
// taken for a whole one.
func TestDamaged(t *testing.T) {
	stream, end := small(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 0; n < end+512; n += 256 {
		if err := read(t.Context(), stream[:n], t.TempDir(), ""); !errors.Is(err, archive.ErrBroken) {
			t.Errorf("cut off after %d of %d bytes: %v", n, len(stream), err)
		}
	}
	for range 200 {
		b := bytes.Clone(stream)
		i := rng.IntN(end)
		b[i] ^= 1 << rng.IntN(8)
		if err := read(t.Context(), b, t.TempDir(), ""); err == nil {
			t.Errorf("another bit at %d of %d: nobody saw", i, len(stream))
		}
	}
}

// line is one of a list.
func line(flag, path string) string { return flag + " 1 1 1 " + strconv.Quote(path) }

// hostile is a stream with one tree of these members, and their lines.
func hostile(lines []string, members ...tar.Header) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(h tar.Header, data []byte) {
		if data != nil {
			h.Size = int64(len(data))
		}
		if h.Format == 0 {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if data == nil {
			data = make([]byte, h.Size)
		}
		if _, err := w.Write(data); err != nil {
			panic(err)
		}
	}
	put(tar.Header{Name: "rubus-backup.json", Typeflag: tar.TypeReg}, []byte(`{"format": 1, "id": "x"}`))
	isNew := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "+") {
			isNew++
		}
	}
	put(tar.Header{Name: "tree.list", Typeflag: tar.TypeReg}, archive.ListOf("id", int64(isNew), lines...))
	for _, m := range members {
		put(m, nil)
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	// It is whole otherwise: what is refused is refused for what it says.
	sum := sha256.Sum256(out.Bytes())
	put(tar.Header{Name: "rubus-backup-end.json", Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}, []byte(`{"sha256": "`+hex.EncodeToString(sum[:])+`"}`))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func evil() map[string][]byte {
	root := tar.Header{Name: "tree/", Typeflag: tar.TypeDir, Mode: 0o755}
	dir := tar.Header{Name: "tree/d/", Typeflag: tar.TypeDir, Mode: 0o755}
	file := func(name string, pax map[string]string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: pax}
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	top := line("+", "")
	one := func(name string, h tar.Header) []byte { return hostile([]string{top, line("+", name)}, root, h) }
	return map[string][]byte{
		"a name that climbs":          one("../x", file("tree/../x", nil)),
		"a name from the root":        one("/x", file("tree//x", nil)),
		"a name with a dot":           one("./x", file("tree/./x", nil)),
		"another name than the list":  one("x", file("tree/y", nil)),
		"a name in another tree":      one("x", file("other/x", nil)),
		"a name through a link":       hostile([]string{top, line("+", "l"), line("+", "l/x")}, root, link("tree/l", "/tmp"), file("tree/l/x", nil)),
		"a hard link through a link":  hostile([]string{top, line("+", "l"), line("+", "x")}, root, link("tree/l", "/etc"), tar.Header{Name: "tree/x", Typeflag: tar.TypeLink, Linkname: "tree/l/passwd"}),
		"a hard link that climbs":     one("x", tar.Header{Name: "tree/x", Typeflag: tar.TypeLink, Linkname: "tree/../../etc/passwd"}),
		"a hard link to another tree": one("x", tar.Header{Name: "tree/x", Typeflag: tar.TypeLink, Linkname: "other/x"}),
		"a hard link to a directory":  hostile([]string{top, line("+", "d"), line("+", "x")}, root, dir, tar.Header{Name: "tree/x", Typeflag: tar.TypeLink, Linkname: "tree/d"}),
		"a name twice":                hostile([]string{top, line("+", "d"), line("+", "d")}, root, dir, dir),
		"a root twice":                hostile([]string{top, top}, root, root),
		"no root":                     hostile([]string{line("+", "d")}, dir),
		"a root that is a file":       hostile([]string{top}, file("tree", nil)),
		"an origin":                   one("x", file("tree/x", map[string]string{"RUBUS.xattr.747275737465642e6f7665726c61792e6f726967696e": "x"})),
		"a redirect that climbs":      hostile([]string{top, line("+", "d")}, root, tar.Header{Name: "tree/d/", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"RUBUS.redirect": "/../.."}}),
		"a label":                     one("x", file("tree/x", map[string]string{"SCHILY.xattr.system.nfs4_acl": "x"})),
		"an endless file":             one("x", file("tree/x", map[string]string{"RUBUS.size": "9223372036854775807"})),
		"a negative file":             one("x", file("tree/x", map[string]string{"RUBUS.size": "-1"})),
		"data beyond the end":         one("x", tar.Header{Name: "tree/x", Typeflag: tar.TypeReg, Size: 4, PAXRecords: map[string]string{"RUBUS.size": "10", "RUBUS.data": "8+4"}}),
		"data that overlaps":          one("x", tar.Header{Name: "tree/x", Typeflag: tar.TypeReg, Size: 4, PAXRecords: map[string]string{"RUBUS.size": "10", "RUBUS.data": "2+2,1+2"}}),
		"data that overflows":         one("x", tar.Header{Name: "tree/x", Typeflag: tar.TypeReg, Size: 4, PAXRecords: map[string]string{"RUBUS.size": "9223372036854775807", "RUBUS.data": "9223372036854775806+4"}}),
		"an owner that is none":       one("x", tar.Header{Name: "tree/x", Typeflag: tar.TypeReg, Uid: 1<<32 - 1}),
		"a device out of range":       one("x", tar.Header{Name: "tree/x", Typeflag: tar.TypeChar, Devmajor: 1 << 13}),
		"a link to nothing":           one("x", link("tree/x", "")),
		"what is taken from nowhere":  hostile([]string{top, line("=", "x")}, root),
		"a list that counts wrong":    hostile([]string{top, line("+", "x"), line("+", "y")}, root, file("tree/x", nil)),
		"a line that is none":         hostile([]string{top, "+ 1 1 x"}, root),
	}
}

// TestHarmless: what the hostile streams are made of is read when it means no harm.
func TestHarmless(t *testing.T) {
	root := tar.Header{Name: "tree/", Typeflag: tar.TypeDir, Mode: 0o755}
	x := tar.Header{Name: "tree/x", Typeflag: tar.TypeReg, Size: 4, PAXRecords: map[string]string{"RUBUS.size": "10", "RUBUS.data": "2+4"}}
	must(t, read(t.Context(), hostile([]string{line("+", ""), line("+", "x")}, root, x), t.TempDir(), ""))
}

// TestHostile: nothing that a stream says leads out of the tree, or is taken for good.
func TestHostile(t *testing.T) {
	for name, stream := range evil() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			to := filepath.Join(dir, "in", "to")
			must(t, os.MkdirAll(to, 0o700))
			err := read(t.Context(), stream, to, "")
			if err == nil || !errors.Is(err, upper.ErrHostile) && !errors.Is(err, archive.ErrBroken) && !errors.Is(err, unix.EEXIST) &&
				!errors.Is(err, unix.EFBIG) && !errors.Is(err, unix.EPERM) {
				t.Errorf("it is read: %v", err)
			}
			onlyIn(t, dir)
		})
	}
}

// onlyIn wants nothing beside dir/in/to.
func onlyIn(t testing.TB, dir string) {
	t.Helper()
	for _, p := range []string{dir, filepath.Join(dir, "in")} {
		if names, err := os.ReadDir(p); err != nil || len(names) != 1 {
			t.Errorf("in %s: %v, %v", p, names, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat("/etc/passwd", &st); err == nil && st.Nlink != 1 {
		t.Errorf("/etc/passwd has %d names", st.Nlink)
	}
}

// FuzzRead: no stream ends the program, or makes anything out of its directory.
func FuzzRead(f *testing.F) {
	stream, _ := small(f)
	f.Add(stream)
	for _, s := range evil() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		dir := t.TempDir()
		to := filepath.Join(dir, "in", "to")
		must(t, os.MkdirAll(to, 0o700))
		if err := read(t.Context(), b, to, ""); err == nil && !bytes.Contains(b, []byte("rubus-backup-end.json")) {
			t.Error("a stream without an end is whole")
		}
		onlyIn(t, dir)
	})
}

package bootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"start4.elf": "start4.elf", "/start4.elf": "start4.elf", "//overlays//x.dtbo": "overlays/x.dtbo",
		"./a/./b": "a/b", "overlays/": "overlays", "a..b": "a..b", "...": "...", "é": "é",
		"": "", "/": "", ".": "", "..": "", "a/../b": "", "../etc/shadow": "", `a\b`: "", `..\a`: "",
		"a\x00b": "", "a\nb": "", "a\x7f": "", "\xff": "",
		strings.Repeat("a", 255): strings.Repeat("a", 255), strings.Repeat("a", 256): "",
	} {
		got, err := Clean(in)
		if got != want || (want == "") != errors.Is(err, ErrBadName) {
			t.Errorf("Clean(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"5b154510//cmdline.txt", "../../x", "a\\b", "/", "overlays/x.dtbo"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := Clean(name)
		if err != nil {
			return
		}
		if !filepath.IsLocal(clean) || clean != filepath.Clean(clean) || strings.HasPrefix(clean, "/") {
			t.Fatalf("Clean(%q) = %q", name, clean)
		}
		if again, err := Clean(clean); err != nil || again != clean {
			t.Fatalf("Clean(%q) = %q, %v", clean, again, err)
		}
	})
}

// board makes a board's root with a boot directory.
func board(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(text), 0o600))
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, tree Tree, name string) (string, error) {
	t.Helper()
	f, err := tree.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	if int64(len(b)) != f.Size() {
		t.Errorf("%q has %d bytes, size said %d", name, len(b), f.Size())
	}
	return string(b), nil
}

func TestOpen(t *testing.T) {
	root := board(t, map[string]string{
		"etc/shadow":                      "secret",
		"boot/outside":                    "secret",
		"boot/firmware2/x":                "secret",
		"boot/firmware/start4.elf":        "firmware",
		"boot/firmware/empty":             "",
		"boot/firmware/Overlays/Miniuart": "overlay",
		"boot/firmware/two.dtb":           "lower",
		"boot/firmware/TWO.dtb":           "upper",
		"boot/firmware/pieeprom.upd":      "brick",
		"boot/firmware/sub/inner":         "inner",
	})
	fw := filepath.Join(root, "boot/firmware")
	for link, target := range map[string]string{
		"inside":      "start4.elf",
		"sub/up":      "../start4.elf",
		"subdir":      "sub",
		"out":         "../outside",
		"shadow":      "../../etc/shadow",
		"absolute":    "/etc/shadow",
		"far":         "../../../../../../../../../etc/passwd",
		"aboveagain":  "../firmware/start4.elf",
		"absinside":   "/boot/firmware/start4.elf",
		"absinsub":    "/boot/firmware/sub/../sub/inner",
		"abssibling":  "/boot/firmware2/x",
		"absself":     "/boot/firmware",
		"loop":        "loop",
		"dangling":    "nothing",
		"dirout":      "../../etc",
		"magic":       "/proc/self/root/etc/passwd",
		"sub/deepout": "../../outside",
	} {
		must(t, os.Symlink(target, filepath.Join(fw, link)))
	}
	must(t, unix.Mkfifo(filepath.Join(fw, "fifo"), 0o666))
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(sock)
	must(t, unix.Bind(sock, &unix.SockaddrUnix{Name: filepath.Join(fw, "socket")}))

	tree := Tree{Root: root, Cmdline: params}
	for name, c := range map[string]struct {
		want string
		err  error
	}{
		"start4.elf":             {"firmware", nil},
		"//start4.elf":           {"firmware", nil},
		"empty":                  {"", nil},
		"START4.ELF":             {"firmware", nil},
		"overlays/miniuart":      {"overlay", nil},
		"two.dtb":                {"lower", nil},
		"TWO.dtb":                {"upper", nil},
		"Two.dtb":                {"upper", nil}, // the first in byte order
		"inside":                 {"firmware", nil},
		"sub/up":                 {"firmware", nil},
		"subdir/inner":           {"inner", nil},
		"missing":                {"", fs.ErrNotExist},
		"missing/deeper":         {"", fs.ErrNotExist},
		"start4.elf/x":           {"", fs.ErrNotExist},
		"dangling":               {"", fs.ErrNotExist},
		"pieeprom.upd":           {"", fs.ErrNotExist},
		"PIEEPROM.UPD":           {"", fs.ErrNotExist},
		"out":                    {"", ErrRefused},
		"shadow":                 {"", ErrRefused},
		"SHADOW":                 {"", ErrRefused},
		"absolute":               {"", ErrRefused},
		"far":                    {"", ErrRefused},
		"aboveagain":             {"firmware", nil},
		"absinside":              {"firmware", nil},
		"ABSINSIDE":              {"firmware", nil},
		"absinsub":               {"inner", nil},
		"abssibling":             {"", ErrRefused},
		"absself":                {"", ErrRefused},
		"loop":                   {"", ErrRefused},
		"dirout/shadow":          {"", ErrRefused},
		"magic":                  {"", ErrRefused},
		"sub/deepout":            {"", ErrRefused},
		"fifo":                   {"", ErrRefused},
		"socket":                 {"", ErrRefused},
		"sub":                    {"", ErrRefused},
		"../outside":             {"", ErrBadName},
		"a/../../outside":        {"", ErrBadName},
		"":                       {"", ErrBadName},
		strings.Repeat("a", 300): {"", ErrBadName},
	} {
		got, err := read(t, tree, name)
		if got != c.want || !errors.Is(err, c.err) || (c.err == nil && err != nil) {
			t.Errorf("Open(%q): %q, %v; want %q, %v", name, got, err, c.want, c.err)
		}
	}

	tree.FirmwareUpdates = true
	if got, err := read(t, tree, "pieeprom.upd"); err != nil || got != "brick" {
		t.Errorf("with firmware updates: %q, %v", got, err)
	}
}

func TestHostileBootDir(t *testing.T) {
	root := board(t, map[string]string{"etc/config.txt": "secret", "real/firmware/x": "x"})
	must(t, os.Mkdir(filepath.Join(root, "boot"), 0o755))
	must(t, os.Symlink("../etc", filepath.Join(root, "boot/firmware")))
	must(t, os.Symlink("real", filepath.Join(root, "linked")))
	must(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o600))
	for dir, want := range map[string]error{
		"":                ErrRefused, // boot/firmware
		"linked/firmware": ErrRefused,
		"missing":         fs.ErrNotExist,
		"file":            unix.ENOTDIR,
		"../..":           unix.EXDEV,
	} {
		for _, name := range []string{"config.txt", "cmdline.txt", "x"} {
			if _, err := (Tree{Root: root, BootDir: dir, Cmdline: params}).Open(name); !errors.Is(err, want) {
				t.Errorf("boot directory %q, file %q: %v, want %v", dir, name, err, want)
			}
		}
	}
}

func TestGenerated(t *testing.T) {
	var warned []string
	tree := func(files map[string]string) Tree {
		warned = nil
		with := map[string]string{"boot/firmware/start.elf": ""}
		for n, s := range files {
			with["boot/firmware/"+n] = s
		}
		return Tree{
			Root: board(t, with), Cmdline: params, ConfigLines: []string{"dtparam=audio=off"},
			Warn: func(file, problem string) { warned = append(warned, file+": "+problem) },
		}
	}
	check := func(tr Tree, name, want string, warnings int) {
		t.Helper()
		f, err := tr.Open(name)
		must(t, err)
		b, err := io.ReadAll(f)
		must(t, err)
		if !f.Generated() || !strings.HasPrefix(string(b), want) || len(warned) != warnings {
			t.Errorf("%q: %q (generated %v), warnings %q; want %q and %d warnings", name, b, f.Generated(), warned, want, warnings)
		}
	}
	check(tree(nil), "config.txt", "\n# The lines", 0)
	check(tree(nil), "cmdline.txt", defaultWords+" "+ours+"\n", 1)
	own := map[string]string{"config.txt": "a=1\n", "cmdline.txt": "quiet root=/dev/mmcblk0p2\n"}
	check(tree(own), "config.txt", "a=1\n\n# The lines below come from the boot server.\n[all]\ndtparam=audio=off\n", 0)
	check(tree(own), "CONFIG.TXT", "a=1\n", 0)
	check(tree(own), "cmdline.txt", "quiet "+ours+"\n", 0)

	other := map[string]string{
		"config.txt": "[pi4]\ncmdline=pi4.txt\n[all]\ninclude more.txt\n", "more.txt": "os_prefix=current/\n",
		"pi4.txt": "four", "current/cmdline.txt": "now", "current/other.txt": "as it is",
	}
	check(tree(other), "pi4.txt", "four "+ours+"\n", 0)
	check(tree(other), "current/cmdline.txt", "now "+ours+"\n", 0)
	if got, err := read(t, tree(other), "current/other.txt"); err != nil || got != "as it is" {
		t.Errorf("other file: %q, %v", got, err)
	}

	check(tree(map[string]string{"cmdline.txt": "a\x00"}), "cmdline.txt", defaultWords, 1)
	check(tree(map[string]string{"config.txt": strings.Repeat("a", MaxConfig+1)}), "config.txt", "\n# The lines", 1)
	hostile := tree(map[string]string{"x": ""})
	for _, name := range []string{"config.txt", "cmdline.txt"} {
		must(t, os.Symlink("/etc/hostname", filepath.Join(hostile.Root, "boot/firmware", name)))
	}
	check(hostile, "config.txt", "\n# The lines", 1)
	warned = nil
	check(hostile, "cmdline.txt", defaultWords, 1)

	bad := tree(nil)
	bad.Cmdline.Path = "no slash"
	if _, err := bad.Open("cmdline.txt"); err == nil {
		t.Error("made a command line of a bad export path")
	}
}

func TestFileKeepsItsSize(t *testing.T) {
	root := board(t, map[string]string{"boot/firmware/grows": "12345678", "boot/firmware/shrinks": "12345678"})
	tree := Tree{Root: root}
	grows, err := tree.Open("grows")
	must(t, err)
	defer grows.Close()
	shrinks, err := tree.Open("shrinks")
	must(t, err)
	defer shrinks.Close()
	must(t, os.WriteFile(filepath.Join(root, "boot/firmware/grows"), []byte("123456789abc"), 0o600))
	must(t, os.Truncate(filepath.Join(root, "boot/firmware/shrinks"), 4))
	if b, err := io.ReadAll(grows); err != nil || string(b) != "12345678" {
		t.Errorf("growing file: %q, %v", b, err)
	}
	if b, err := io.ReadAll(shrinks); !errors.Is(err, ErrShrunk) || string(b) != "1234" {
		t.Errorf("shrinking file: %q, %v", b, err)
	}
}

func TestFileReads(t *testing.T) {
	if err := iotest.TestReader(generatedFile([]byte("some text")), []byte("some text")); err != nil {
		t.Error(err)
	}
	root := board(t, map[string]string{"boot/firmware/f": "some text"})
	f, err := Tree{Root: root}.Open("f")
	must(t, err)
	defer f.Close()
	if f.ModTime().IsZero() {
		t.Error("no time")
	}
	if err := iotest.TestReader(f, []byte("some text")); err != nil {
		t.Error(err)
	}
}

// What of a file is in memory is read without a wait; where the file system cannot
// say that, as an overlay, nothing is, and Read goes on.
func TestReadNow(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "overlay"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	must(t, os.WriteFile(filepath.Join(dir, "lower/f"), []byte("some text"), 0o600)) // so it is in memory
	at := filepath.Join(dir, "overlay")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	must(t, unix.Mount("overlay", at, "overlay", 0, options))
	t.Cleanup(func() { must(t, unix.Unmount(at, 0)) })
	open := func(path string) *File {
		f, err := os.Open(filepath.Join(dir, path))
		must(t, err)
		file, err := FromFile(f)
		must(t, err)
		t.Cleanup(func() { file.Close() })
		return file
	}
	grown := open("lower/f")
	must(t, os.WriteFile(filepath.Join(dir, "lower/f"), []byte("some text, and more"), 0o600))
	for name, c := range map[string]struct {
		f    *File
		want string
	}{
		"made for the request": {generatedFile([]byte("some text")), "some text"},
		"in memory":            {grown, "some text"},
		"of an overlay":        {open("overlay/f"), ""},
	} {
		b := make([]byte, 5)
		var got []byte
		for n := c.f.ReadNow(b); n > 0; n = c.f.ReadNow(b) {
			got = append(got, b[:n]...)
		}
		if string(got) != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		rest, err := io.ReadAll(c.f)
		if want := "some text, and more"[len(got):c.f.Size()]; err != nil || string(rest) != want {
			t.Errorf("%s: then %q, %v, want %q", name, rest, err, want)
		}
	}
}

package fat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/images/fat"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), "TZ=UTC")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func files() map[string][]byte {
	return map[string][]byte{
		"config.txt":                  []byte("arm_64bit=1\n"),
		"cmdline.txt":                 []byte("console=tty1"),
		"empty":                       nil,
		"kernel_2712.img":             bytes.Repeat([]byte("0123456789abcde"), 70001),
		"overlays/a-rather-long.dtbo": []byte("long"),
		"overlays/UPPER.TXT":          []byte("upper"),
		"overlays/Mixed.txt":          []byte("mixed"),
		"überläufer.txt":              []byte("umlauts"),
	}
}

func image(t testing.TB, megabytes int64, args ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "fat")
	must(t, os.WriteFile(img, nil, 0o600))
	must(t, os.Truncate(img, megabytes<<20))
	run(t, "mkfs.vfat", append(args, "-n", "BOOTFS", "-i", "1234abcd", img)...)
	src := t.TempDir()
	when := time.Date(2026, 6, 18, 12, 34, 56, 0, time.UTC)
	for name, content := range files() {
		p := filepath.Join(src, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, content, 0o644))
		must(t, os.Chtimes(p, when, when))
	}
	list, err := filepath.Glob(filepath.Join(src, "*"))
	must(t, err)
	run(t, "mcopy", append([]string{"-s", "-m", "-i", img}, append(list, "::")...)...)
	return img
}

// read reads all files below a directory.
func read(fs *fat.FS, dir fat.Entry, at string, out map[string]string, depth int) error {
	list, err := fs.ReadDir(dir)
	if err != nil || depth > 20 {
		return err
	}
	for _, e := range list {
		p := filepath.Join(at, e.Name)
		if e.Dir {
			if err := read(fs, e, p, out, depth+1); err != nil {
				return err
			}
			continue
		}
		f, err := fs.Open(e)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		if err != nil {
			return err
		}
		out[p] = fmt.Sprint(e.Time.Unix(), " ", string(b))
	}
	return nil
}

// What mtools wrote is what is read, whatever the size of table and clusters.
func TestReadsWhatMtoolsWrote(t *testing.T) {
	for name, c := range map[string]struct {
		megabytes int64
		args      []string
	}{
		"clusters of 512 bytes, a million": {512, []string{"-F", "32", "-s", "1"}},
		"clusters of 2 KiB":                {512, []string{"-F", "32", "-s", "4"}},
		"bullseye":                         {256, []string{"-F", "32", "-s", "4"}},
		"FAT32, small":                     {40, []string{"-F", "32", "-s", "1"}},
		"FAT16":                            {64, []string{"-F", "16"}},
		"FAT12":                            {4, []string{"-F", "12"}},
		"sectors of 4 KiB":                 {300, []string{"-F", "32", "-S", "4096"}},
	} {
		t.Run(name, func(t *testing.T) {
			img := image(t, c.megabytes, c.args...)
			f, err := os.Open(img)
			must(t, err)
			defer f.Close()
			fs, err := fat.Open(f, c.megabytes<<20)
			must(t, err)
			if fs.Label() != "BOOTFS" || fs.ID() != "1234-ABCD" {
				t.Errorf("%q %q", fs.Label(), fs.ID())
			}
			got := make(map[string]string)
			must(t, read(fs, fs.Root(), "", got, 0))
			when := time.Date(2026, 6, 18, 12, 34, 56, 0, time.UTC).Unix()
			for name, content := range files() {
				if want := fmt.Sprint(when, " ", string(content)); got[name] != want {
					t.Errorf("%s: %.60q, want %.60q", name, got[name], want)
				}
				delete(got, name)
			}
			for name := range got {
				t.Errorf("%s is read and was not written", name)
			}
		})
	}
}

// Chains that loop, run into each other or lead away end in an error.
func TestHostile(t *testing.T) {
	img := image(t, 4, "-F", "12")
	pristine, err := os.ReadFile(img)
	must(t, err)
	refused := 0
	for at := 0; at < 64<<10; at += 41 {
		b := bytes.Clone(pristine)
		b[at] ^= 0x55
		fs, err := fat.Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			err = read(fs, fs.Root(), "", map[string]string{}, 0)
		}
		if err != nil && !errors.Is(err, fat.ErrCorrupt) {
			t.Errorf("byte %d: %v", at, err)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("only %d damages were noticed", refused)
	}
	if _, err := fat.Open(bytes.NewReader(pristine[:1<<20]), 1<<20); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("cut off: %v", err)
	}
}

// A chain of clusters that leads back into itself has an end here.
func TestLoops(t *testing.T) {
	b, err := os.ReadFile(image(t, 4, "-F", "12", "-s", "4", "-R", "1", "-f", "1"))
	must(t, err)
	table := b[512:]
	for n := 2; n < 2000; n++ { // every cluster is followed by itself: FAT12 has 12 bits for each
		at := n * 3 / 2
		if n%2 == 0 {
			table[at], table[at+1] = byte(n), table[at+1]&0xf0|byte(n>>8)
		} else {
			table[at], table[at+1] = table[at]&0x0f|byte(n<<4), byte(n>>4)
		}
	}
	fs, err := fat.Open(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	if err := read(fs, fs.Root(), "", map[string]string{}, 0); !errors.Is(err, fat.ErrCorrupt) {
		t.Errorf("a loop: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, args := range [][]string{{"-F", "12", "-s", "1"}, {"-F", "12", "-s", "2"}} {
		img := filepath.Join(f.TempDir(), "fat")
		must(f, os.WriteFile(img, nil, 0o600))
		must(f, os.Truncate(img, 128<<10))
		run(f, "mkfs.vfat", append(args, img)...)
		p := filepath.Join(f.TempDir(), "a-long-name.txt")
		must(f, os.WriteFile(p, bytes.Repeat([]byte("x"), 3000), 0o600))
		run(f, "mmd", "-i", img, "::dir")
		run(f, "mcopy", "-i", img, p, "::dir")
		b, err := os.ReadFile(img)
		must(f, err)
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		if fs, err := fat.Open(bytes.NewReader(b), int64(len(b))); err == nil {
			_ = read(fs, fs.Root(), "", map[string]string{}, 0)
		}
	})
}

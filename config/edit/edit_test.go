package edit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rubus/config"
	"rubus/config/device"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"
)

// TestEdit runs testdata/edit/*.txtar: the comment names the edits, one to a
// line; "before" becomes "after", or is refused with what "error" says.
func TestEdit(t *testing.T) {
	files, err := filepath.Glob("testdata/edit/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			must(t, err)
			parts := map[string]string{}
			for _, f := range ar.Files {
				parts[f.Name] = string(f.Data)
			}
			for _, eol := range []string{"\n", "\r\n"} {
				data := []byte(strings.ReplaceAll(parts["before"], "\n", eol))
				for line := range strings.Lines(string(ar.Comment)) {
					if strings.HasPrefix(line, "#") || err != nil {
						continue
					}
					data, err = parseEdit(t, line)("devices.yaml", data)
				}
				want := strings.ReplaceAll(parts["after"], "\n", eol)
				if parts["error"] != "" {
					if err == nil {
						t.Fatalf("not refused; the text is\n%s", data)
					}
					if diff := cmp.Diff(parts["error"], err.Error()+"\n"); diff != "" {
						t.Errorf("error (-want +got):\n%s", diff)
					}
					err = nil
					continue
				}
				must(t, err)
				// An empty file has no line ends to go by.
				if diff := cmp.Diff(want, string(data)); diff != "" && parts["before"] != "" {
					t.Errorf("with %q (-want +got):\n%s", eol, diff)
				}
			}
		})
	}
}

// parseEdit reads "add SERIAL KEY=VALUE...", "remove SERIAL", "set SERIAL ...",
// "enable SERIAL", "disable SERIAL"; | stands for a blank in a value.
func parseEdit(t *testing.T, line string) Change {
	t.Helper()
	f := strings.Fields(line)
	s := serial(t, f[1])
	var settings []Setting
	for _, kv := range f[2:] {
		k, v, _ := strings.Cut(kv, "=")
		settings = append(settings, Setting{k, strings.ReplaceAll(v, "|", " ")})
	}
	switch f[0] {
	case "add":
		return AddDevice(s, settings...)
	case "remove":
		return RemoveDevice(s)
	case "set":
		return SetDevice(s, settings...)
	case "enable", "disable":
		return EnableDevice(s, f[0] == "enable")
	}
	t.Fatalf("what edit is %q?", line)
	return nil
}

func TestFile(t *testing.T) {
	const before = "# keep\ndefaults: {image: lab}\ndevices:\n  - serial: 00000001 # mine\n"
	add := AddDevice(serial(t, "00000002"))
	setup := func(t *testing.T, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "devices.yaml")
		write(t, path, text)
		return path
	}
	text := func(t *testing.T, path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		must(t, err)
		return string(b)
	}
	t.Run("mode, owner and link are kept", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Fatal("this test needs root, to give the file to somebody else")
		}
		path := setup(t, before)
		must(t, os.Chmod(path, 0o640))
		must(t, os.Chown(path, 12, 34))
		link := filepath.Join(t.TempDir(), "link.yaml")
		must(t, os.Symlink(path, link))
		written, err := File(t.Context(), link, add)
		if err != nil || !written {
			t.Fatalf("%v, %v", written, err)
		}
		fi, err := os.Lstat(path)
		must(t, err)
		st := fi.Sys().(*syscall.Stat_t)
		if fi.Mode() != 0o640 || st.Uid != 12 || st.Gid != 34 {
			t.Errorf("mode %v, owner %d:%d", fi.Mode(), st.Uid, st.Gid)
		}
		if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
			t.Errorf("the link: %v, %v", fi, err)
		}
		if want := before + "  - serial: 00000002\n"; text(t, path) != want {
			t.Errorf("got %q", text(t, path))
		}
	})
	t.Run("a missing file is made", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "devices.yaml")
		_, err := File(t.Context(), path, AddDevice(serial(t, "00000002"), Setting{"image", "lab"}))
		must(t, err)
		if want := "version: 1\ndevices:\n  - serial: 00000002\n    image: lab\n"; text(t, path) != want {
			t.Errorf("got %q", text(t, path))
		}
	})
	t.Run("nothing to change", func(t *testing.T) {
		path := setup(t, before)
		written, err := File(t.Context(), path, EnableDevice(serial(t, "00000001"), true))
		if err != nil || written {
			t.Errorf("%v, %v", written, err)
		}
	})
	t.Run("invalid before", func(t *testing.T) {
		path := setup(t, before+"  - serial: x\n")
		_, err := File(t.Context(), path, add)
		var p config.Problems
		if !errors.As(err, &p) || p[0].Line != 5 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("changed since it was read", func(t *testing.T) {
		path := setup(t, before)
		_, err := File(t.Context(), path, func(name string, data []byte) ([]byte, error) {
			write(t, path, "# an editor\n")
			return add(name, data)
		})
		if !errors.Is(err, ErrChanged) || text(t, path) != "# an editor\n" {
			t.Errorf("%v, and the file is %q", err, text(t, path))
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".devices.yaml[^.]*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("removed since it was read", func(t *testing.T) {
		path := setup(t, before)
		_, err := File(t.Context(), path, func(name string, data []byte) ([]byte, error) {
			must(t, os.Remove(path))
			return add(name, data)
		})
		if !errors.Is(err, ErrChanged) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("locked", func(t *testing.T) {
		path := setup(t, before)
		f, err := os.Create(filepath.Join(filepath.Dir(path), ".devices.yaml.lock"))
		must(t, err)
		defer f.Close()
		must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = File(ctx, path, add)
		if err == nil || !strings.Contains(err.Error(), "another command is editing it") {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzEdit wants an edit that is taken to change nothing but what it is about.
func FuzzEdit(f *testing.F) {
	files, _ := filepath.Glob("testdata/edit/*.txtar")
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ar.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := config.Parse(config.File{}, config.File{Name: "devices.yaml", Data: data})
		if err != nil {
			return
		}
		fresh := serial(t, "fedcba98")
		if s.BySerial(fresh) == nil {
			after, err := AddDevice(fresh, Setting{"image", "lab"})("devices.yaml", data)
			if err == nil {
				back, err := RemoveDevice(fresh)("devices.yaml", after)
				if err == nil && bytes.Count(back, []byte("#")) != bytes.Count(data, []byte("#")) {
					t.Fatalf("a comment was lost: %q -> %q -> %q", data, after, back)
				}
			}
		}
		for _, d := range s.Devices() {
			for _, e := range []Change{
				RemoveDevice(d.Serial), EnableDevice(d.Serial, !d.Enabled),
				SetDevice(d.Serial, Setting{"image", "x"}, Setting{"cmdline", "a b"}, Setting{"name", ""}),
			} {
				after, err := e("devices.yaml", data)
				if err != nil {
					continue
				}
				if _, err := config.Parse(config.File{}, config.File{Name: "devices.yaml", Data: after}); err != nil {
					t.Fatalf("%q became invalid: %v", data, err)
				}
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func serial(t testing.TB, s string) device.Serial {
	t.Helper()
	out, err := device.ParseSerial(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

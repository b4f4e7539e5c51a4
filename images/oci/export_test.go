package oci_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/oci"
)

// TestMain is also the process that is killed: with RUBUS_EXPORT set it exports a
// version of RUBUS_STORE there, and kills itself at step RUBUS_STEP.
func TestMain(m *testing.M) {
	if place := os.Getenv("RUBUS_EXPORT"); place != "" {
		left, _ := strconv.Atoi(os.Getenv("RUBUS_STEP"))
		s, err := images.Open(os.Getenv("RUBUS_STORE"))
		if err == nil {
			err = export(context.Background(), s, 2, place, func() {
				if left--; left == 0 {
					_ = unix.Kill(os.Getpid(), unix.SIGKILL)
					select {} // until it arrives
				}
			})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func export(ctx context.Context, s *images.Store, version int, place string, observe func()) error {
	v, err := s.Resolve(imageref.Ref{Name: "lab", Version: version})
	if err != nil {
		return err
	}
	_, err = oci.Export(ctx, s, v, place, oci.Options{Platform: "linux/arm64", Replace: true, Observe: observe}, nil)
	return err
}

// Killed at every step an export is there as a whole, or what was there before; and what is
// left of one that was killed between its last steps the next one removes.
func TestExportKilled(t *testing.T) {
	s := store(t)
	put(t, s, stacked(t))
	put(t, s, append(stacked(t), layer(t, entry{name: "new", body: strings.Repeat("new\n", 1<<16)})))
	for _, c := range []struct{ kind, name string }{{"docker-archive:", "lab.tar"}, {"oci:", "layout"}} {
		t.Run(c.kind, func(t *testing.T) {
			dir := t.TempDir()
			place := c.kind + filepath.Join(dir, c.name)
			at := t.TempDir()
			must(t, export(t.Context(), s, 2, c.kind+filepath.Join(at, c.name), nil))
			done, old := content(t, at), ""
			if c.kind == "docker-archive:" {
				must(t, export(t.Context(), s, 1, place, nil))
				old = content(t, dir)
			}
			begun := 0
			for step := 1; ; step++ {
				run := exec.CommandContext(t.Context(), os.Args[0])
				run.Env = append(os.Environ(), "RUBUS_EXPORT="+place, "RUBUS_STORE="+s.Dir(), fmt.Sprintf("RUBUS_STEP=%d", step))
				out, err := run.CombinedOutput()
				if err == nil {
					if step < 4 || begun == 0 {
						t.Errorf("only %d steps, %d with something left", step-1, begun)
					}
					break
				}
				if end := run.ProcessState.String(); end != "signal: killed" {
					t.Fatalf("step %d: %s: %s", step, end, out)
				}
				if got := content(t, dir); got == done {
					if c.kind == "oci:" { // one that is there is not replaced
						must(t, os.Rename(filepath.Join(dir, c.name), filepath.Join(dir, ".rubus-export-done")))
					}
				} else if got != old {
					t.Errorf("killed at step %d there is\n%s", step, got)
				}
				if left, err := filepath.Glob(dir + "/.rubus-export-*"); err != nil || len(left) > 0 {
					begun++
				}
			}
			if list, err := os.ReadDir(dir); err != nil || len(list) != 1 || content(t, dir) != done {
				t.Errorf("in the end there are %v, %v", list, err)
			}
			if left, err := os.ReadDir(filepath.Join(s.Dir(), "tmp")); err != nil || len(left) > 0 {
				t.Errorf("left in the store: %v, %v", left, err)
			}
		})
	}
}

// content is all files below dir but what the next export removes, with a sum of what they hold.
func content(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && strings.HasPrefix(d.Name(), ".rubus-export-") {
				return fs.SkipDir
			}
			return err
		}
		out, err := exec.CommandContext(t.Context(), "sha256sum", p).Output()
		rel, _ := filepath.Rel(dir, p)
		sum, _, _ := strings.Cut(string(out), " ")
		fmt.Fprintf(&b, "%s %s\n", sum, rel)
		return err
	}))
	return b.String()
}

// What dead exports left goes; what a living one puts together stays. A target that is
// no archive is not replaced, whatever is said.
func TestExportSweepsAndRefuses(t *testing.T) {
	s := store(t)
	put(t, s, stacked(t))
	dir := t.TempDir()
	for _, d := range []string{"dead", "living"} {
		must(t, os.MkdirAll(filepath.Join(dir, ".rubus-export-"+d, "layout/blobs"), 0o755))
	}
	fd, err := unix.Open(filepath.Join(dir, ".rubus-export-living"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Flock(fd, unix.LOCK_EX))
	must(t, os.Symlink("elsewhere", filepath.Join(dir, "link.tar")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo.tar"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "mine.tar"), []byte("mine"), 0o600))
	for target, replace := range map[string]bool{
		"docker-archive:" + dir + "/link.tar": true, "docker-archive:" + dir + "/fifo.tar": true, "docker-archive:" + dir: true,
		"docker-archive:" + dir + "/mine.tar": false, "oci:" + dir + "/mine.tar": true, "oci:" + dir: true, "oci:" + dir + "/no/dir": false,
	} {
		v, err := s.Resolve(imageref.Ref{Name: "lab"})
		must(t, err)
		if _, err := oci.Export(t.Context(), s, v, target, oci.Options{Platform: "linux/arm64", Replace: replace}, nil); err == nil {
			t.Errorf("%s: exported", target)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "mine.tar")); err != nil || string(b) != "mine" {
		t.Errorf("the file that was there is %q, %v", b, err)
	}
	must(t, export(t.Context(), s, 1, "docker-archive:"+dir+"/mine.tar", nil))
	var names []string
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != ".rubus-export-living fifo.tar link.tar mine.tar" {
		t.Errorf("there are %s", got)
	}
}

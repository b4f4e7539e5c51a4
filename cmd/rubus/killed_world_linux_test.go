package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images"
)

// killedWorld is a state directory whose board has written over lab@1.
type killedWorld struct {
	t   *testing.T
	dir string
}

const killedBoard = "5b154510"

// inMemory mounts a file system that has no disk to wait for: what a killed process wrote
// stays where it is, on a disk or not.
func inMemory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Another row's child holds files of this process until it runs its program.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newKilledWorld(t *testing.T, dir string) *killedWorld {
	t.Helper()
	w := &killedWorld{t, dir}
	for name, text := range map[string]string{
		"devices.yaml": "version: 1\ndevices:\n  - {serial: 5b154510, image: lab}\n", "nas/.keep": "",
		"root/boot/config.txt": "", "root/etc/gone": "gone", "root/etc/golden": "golden",
	} {
		w.put(name, text)
	}
	w.rubus("image", "import", "lab", w.at("root"))
	list := w.rubus("image", "show", "lab", "--json")
	_, digest, _ := strings.Cut(list, `"digest": "`)
	digest, _, _ = strings.Cut(digest, `"`)
	board := "state/devices/" + killedBoard + "/"
	for i := range 5 {
		w.put(fmt.Sprintf("%suppers/0123456789abcdef.1/upper/etc/new%d", board, i), "new")
	}
	w.put(board+"uppers/0123456789abcdef.1/upper/etc/golden", "changed")
	w.put(board+"uppers/0123456789abcdef.1/work/x", "")
	if err := unix.Mknod(w.at(board+"uppers/0123456789abcdef.1/upper/etc/gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	w.put(board+"device.json", `{"version": 1, "serial": "5b154510", "up": false, "last_slot": 1, "slots": [
  {"n": 1, "state": "current", "image": "lab@1", "export": "00000000000000ff", "made": "2026-01-02T03:04:05Z", "mounted": "2026-01-02T03:04:05Z", "boot": "boot",
   "base": {"id": "0123456789abcdef", "digests": ["`+digest+`"], "roots": [""]}}]}`)
	return w
}

func (w *killedWorld) at(name string) string { return filepath.Join(w.dir, name) }

func (w *killedWorld) put(name, text string) {
	w.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(w.at(name)), 0o755), os.WriteFile(w.at(name), []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

// env is that of the command, with the state directory of a name.
func (w *killedWorld) env(state string) []string {
	return append(os.Environ(), "RUBUS_STATE="+w.at(state), "RUBUS_RUN="+w.at("run"), "RUBUS_CONFIG="+w.at("rubus.yaml"), "RUBUS_DEVICES="+w.at("devices.yaml"))
}

// rubus runs the command to its end.
func (w *killedWorld) rubus(args ...string) string { return w.rubusIn("state", args...) }

func (w *killedWorld) rubusIn(state string, args ...string) string {
	w.t.Helper()
	return w.rubusOr("", state, args...)
}

// rubusOr is rubusIn of what may end with an error, when that is not "".
func (w *killedWorld) rubusOr(refusal, state string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command("rubus", args...)
	cmd.Env = w.env(state)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil && (refusal == "" || !strings.Contains(errs.String(), refusal)) {
		w.t.Fatalf("rubus %q: %v\n%s", args, err, errs.String())
	}
	return string(out)
}

// none wants no file that matches a pattern.
func (w *killedWorld) none(patterns ...string) {
	w.t.Helper()
	for _, p := range patterns {
		found, err := filepath.Glob(w.at(p))
		if err != nil || len(found) > 0 {
			w.t.Errorf("left behind: %q, %v", found, err)
		}
	}
}

// noneMounted wants nothing mounted of an image that was edited.
func (w *killedWorld) noneMounted() {
	w.t.Helper()
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), "rubus-edit") {
		w.t.Errorf("left mounted, %v:\n%s", err, mounts)
	}
}

// copied is a world like this one was when it was made, in a new directory.
func (w *killedWorld) copied(t *testing.T, dir string) *killedWorld {
	t.Helper()
	c := &killedWorld{t, dir}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", w.dir+"/.", c.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return c
}

// versions are those of lab, and which of them the name means.
func (w *killedWorld) versions() string { return w.versionsIn("state") }

func (w *killedWorld) versionsIn(state string) string {
	w.t.Helper()
	s, err := images.Open(w.at(state + "/images"))
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := s.List()
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, v := range list {
		for _, l := range v.Layers {
			if err := s.Verify(w.t.Context(), l.Digest, nil); err != nil {
				w.t.Errorf("%s: %v", v.Ref, err)
			}
		}
		out = append(out, v.Ref.String())
	}
	tags, err := s.Tags()
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("%s, lab is %d", strings.Join(out, " "), tags["lab"])
}

// has wants the old or the new of what there is; done again, the new, or another one.
func (w *killedWorld) has(again bool, got, before, done, twice string) {
	w.t.Helper()
	if got != done && (again || got != before) && (!again || got != twice) {
		w.t.Errorf("there is %s", got)
	}
}

// read is what is in a file.
func (w *killedWorld) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.at(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// run runs another program, well.
func (w *killedWorld) run(name string, args ...string) string {
	w.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// busyboxIn makes a version of an image that has a shell.
func busyboxIn(w *killedWorld, image string) {
	w.t.Helper()
	for _, dir := range []string{"bin", "dev", "proc", "run", "sys", "tmp"} {
		w.run("mkdir", "-p", w.at("shell/"+dir))
	}
	w.run("cp", "/bin/busybox", w.at("shell/bin/sh"))
	w.rubus("image", "import", image, w.at("shell"))
	w.run("rm", "-r", w.at("shell"))
}

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"rubus/images"
)

// changing are the calls that change what is on the disk, but for the text of files: that is
// nowhere in use before it is brought to the disk and its file has got its name.
func changing() []uint64 {
	return []uint64{
		unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
		unix.SYS_MKNODAT, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNCFS, unix.SYS_FTRUNCATE,
	}
}

// killedAt runs a command that is killed, all its threads, before its nth call that changes
// what is on the disk. It says whether it came to that; else the command has ended, well.
func killedAt(t *testing.T, n int, env []string, name string, args ...string) bool {
	t.Helper()
	// A thread's own children are those that it waits for, and traces.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out strings.Builder
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	// A group of its own: this thread may have begun a command that another goroutine waits for.
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	defer func() { _ = cmd.Process.Release() }()
	begun := false
	for {
		var st unix.WaitStatus
		who, err := unix.Wait4(-pid, &st, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			t.Fatalf("waiting for %s: %v", name, err)
		case st.Exited() && who == pid:
			if text, err := os.ReadFile(log.Name()); st.ExitStatus() != 0 {
				t.Fatalf("%s %q ends with %d: %s%s (%v)", name, args, st.ExitStatus(), text, out.String(), err)
			}
			return false
		case st.Signaled() && who == pid:
			return true
		case !st.Stopped():
			continue
		}
		if !begun {
			begun = true
			const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
			if err := unix.PtraceSetOptions(pid, options); err != nil {
				t.Fatal(err)
			}
		}
		pass := 0
		switch sig := st.StopSignal(); {
		case sig == unix.SIGTRAP|0x80:
			if changes(who) {
				if n--; n == 0 {
					if err := unix.Kill(pid, unix.SIGKILL); err != nil {
						t.Fatal(err)
					}
					continue
				}
			}
		case sig != unix.SIGTRAP && sig != unix.SIGSTOP: // those are ours
			pass = int(sig)
		}
		if err := unix.PtraceSyscall(who, pass); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
}

// changes says that a thread which stopped is about to make one of the calls of changing.
func changes(tid int) bool {
	var info struct {
		op    uint8
		_     [3]uint8
		_     uint32
		_, _  uint64
		entry struct{ nr uint64 }
		_     [48]byte
	}
	const getSyscallInfo, entering = 0x420e, 1
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	return errno == 0 && info.op == entering && slices.Contains(changing(), info.entry.nr)
}

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
	cmd := exec.Command("rubus", args...)
	cmd.Env = w.env(state)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
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

// Verbs that need no daemon are killed before each call that changes what is on the disk:
// there is what was there, or what was asked for, and after the verb was said again nothing
// else.
func TestKilledAtEveryWrite(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		state string // "state" where it is not said
		// before comes first, after looks at what is there; again: the verb was said twice.
		before func(*killedWorld)
		after  func(w *killedWorld, again bool)
	}{
		"commit": {args: []string{"device", "commit", killedBoard, "lab"}, after: func(w *killedWorld, again bool) {
			w.has(again, w.versions(), "lab@1, lab is 1", "lab@1 lab@2, lab is 1", "lab@1 lab@2 lab@3, lab is 1")
		}},
		"promote": {args: []string{"device", "promote", killedBoard, "lab"}, after: func(w *killedWorld, again bool) {
			w.has(again, w.versions(), "lab@1, lab is 1", "lab@1 lab@2, lab is 2", "lab@1 lab@2 lab@3, lab is 3")
		}},
		"rules": {
			args: []string{"image", "lint", "lab@2", "--apply", "--tag"},
			before: func(w *killedWorld) {
				w.put("root/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
				w.put("root/usr/lib/systemd/systemd", "")
				w.rubus("image", "import", "lab", w.at("root"), "--no-rules")
			},
			after: func(w *killedWorld, again bool) {
				w.has(again, w.versions(), "lab@1 lab@2, lab is 2", "lab@1 lab@2 lab@3, lab is 3", "lab@1 lab@2 lab@3 lab@4, lab is 4")
			},
		},
		"layers": {
			args: []string{"image", "import", "lab", "oci:DIR/oci"}, state: "new",
			before: func(w *killedWorld) {
				w.rubus("device", "commit", killedBoard, "lab")
				w.rubus("image", "export", "lab@2", "oci:"+w.at("oci"), "--platform", "linux/arm64")
			},
			after: func(w *killedWorld, again bool) {
				w.has(again, w.versionsIn("new"), ", lab is 0", "lab@1, lab is 1", "lab@1 lab@2, lab is 2")
			},
		},
		"backup": {args: []string{"backup", "--to", "DIR/nas", "--images"}, after: func(w *killedWorld, again bool) {
			files, err := filepath.Glob(w.at("nas/rubus-*.tar"))
			if err != nil || again && len(files) == 0 || !again && len(files) > 1 {
				w.t.Errorf("backups %q, %v", files, err)
			}
			if len(files) > 0 { // all that have a name are whole
				w.rubusIn("elsewhere", "restore", w.at("nas"), "--dry-run")
			}
		}},
		"increment": {
			args: []string{"backup", "--to", "DIR/nas", "--images", "--keep", "1", "--full-every", "1"},
			before: func(w *killedWorld) {
				w.rubus("backup", "--to", w.at("nas"), "--images")
				w.put("state/devices/"+killedBoard+"/uppers/0123456789abcdef.1/upper/etc/more", "more")
			},
			after: func(w *killedWorld, again bool) {
				files, err := filepath.Glob(w.at("nas/rubus-*.tar"))
				if err != nil || len(files) == 0 || again && len(files) != 1 {
					w.t.Errorf("backups %q, %v", files, err)
				}
				w.rubusIn("elsewhere", "restore", w.at("nas"), "--dry-run")
			},
		},
		"restore": {
			args: []string{"restore", "DIR/nas", "--yes", "--with-config"}, state: "new",
			before: func(w *killedWorld) {
				w.rubus("backup", "--to", w.at("nas"), "--images")
				w.put("devices.yaml", "version: 1\n")
			},
			after: func(w *killedWorld, again bool) {
				board := "new/devices/" + killedBoard
				if _, err := os.Stat(w.at(board)); again && err != nil {
					w.t.Error(err)
				} else if err == nil {
					_, err := os.Stat(w.at(board + "/device.json"))
					found, _ := filepath.Glob(w.at(board + "/uppers/*/upper/etc/*"))
					if err != nil || len(found) != 7 {
						w.t.Errorf("half a board: %q, %v", found, err)
					}
				}
				text, err := os.ReadFile(w.at("devices.yaml"))
				if isNew := strings.Contains(string(text), killedBoard); err != nil || !isNew && string(text) != "version: 1\n" || again && !isNew {
					w.t.Errorf("devices.yaml is %q, %v", text, err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.state == "" {
				c.state = "state"
			}
			dir := inMemory(t)
			first := newKilledWorld(t, filepath.Join(dir, "first"))
			if c.before != nil {
				c.before(first)
			}
			kills := 0
			for n, killed := 1, true; killed && !t.Failed(); n++ {
				w := first.copied(t, filepath.Join(dir, strconv.Itoa(n)))
				args := slices.Clone(c.args)
				for i, a := range args {
					args[i] = strings.Replace(a, "DIR", w.dir, 1)
				}
				rubus, err := exec.LookPath("rubus")
				if err != nil {
					t.Fatal(err)
				}
				if killed = killedAt(t, n, w.env(c.state), rubus, args...); killed {
					kills++
					c.after(w, false)
				}
				w.rubusIn(c.state, args...)
				w.none(c.state+"/images/tmp/*", c.state+"/devices/.*", c.state+"/devices/*/snapshots/.*", c.state+"/devices/*/uppers/.*", "nas/.rubus-*", "*.tmp*", ".devices*")
				c.after(w, true)
				if t.Failed() {
					t.Logf("killed before call %d that changes the disk", n)
				}
			}
			if kills < 5 {
				t.Errorf("killed %d times alone", kills)
			}
			t.Logf("killed %d times", kills)
		})
	}
}

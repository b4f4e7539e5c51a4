package editor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// Inside is the process that Edit starts: the first of its own process namespace. It mounts
// the root, runs the command in it, and returns its exit code.
func Inside() int {
	runtime.LockOSThread() // capabilities are a thread's own
	code, err := inside()
	if err != nil {
		fmt.Fprintf(os.Stderr, "rubus: error: %v\n", err)
		return setupFailed
	}
	return code
}

func inside() (int, error) {
	var s spec
	pipe := os.NewFile(3, "spec")
	if err := json.NewDecoder(pipe).Decode(&s); err != nil {
		return 0, fmt.Errorf("this is started by \"rubus image edit\" alone: %w", err)
	}
	pipe.Close()
	// What a board would ask: read before the host's files are out of sight.
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	if err := mountRoot(s); err != nil {
		return 0, err
	}
	if s.Extract == "" {
		if err := emulation(s.Root); err != nil {
			return 0, err
		}
	}
	if err := enter(s.Root); err != nil {
		return 0, err
	}
	resolver(resolv)
	_ = unix.Sethostname([]byte(s.Name))
	if err := dropCapabilities(); err != nil {
		return 0, err
	}
	if s.Extract != "" {
		unix.Umask(0)
		return 0, extract(os.Stdin, s.Extract)
	}
	return runCommand(s)
}

func mountRoot(s spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	// By descriptors, so that all layers fit into the options.
	var files []int
	defer func() {
		for _, fd := range files {
			unix.Close(fd)
		}
	}()
	name := func(dir string) (string, error) {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", &os.PathError{Op: "open", Path: dir, Err: err}
		}
		files = append(files, fd)
		return fmt.Sprintf("/proc/self/fd/%d", fd), nil
	}
	var lower []string
	for _, dir := range append([]string{s.Services}, s.Lower...) {
		if dir == "" {
			continue
		}
		l, err := name(dir)
		if err != nil {
			return err
		}
		lower = append(lower, l)
	}
	upper, err := name(s.Upper)
	if err != nil {
		return err
	}
	work, err := name(s.Work)
	if err != nil {
		return err
	}
	// What is written must mean the same without these layers at hand: no redirects, no files without content.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off,index=off", strings.Join(lower, ":"), upper, work)
	if err := unix.Mount("rubus-edit", s.Root, "overlay", unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mounting the version's layers: %w", err)
	}
	root, err := onefs.OpenRoot(s.Root)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for _, m := range []struct {
		dir, kind, options string
		flags              uintptr
	}{
		{"proc", "proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sys", "sysfs", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY},
		{"dev", "tmpfs", "mode=755", unix.MS_NOSUID},
		{"run", "tmpfs", "mode=755", unix.MS_NOSUID | unix.MS_NODEV},
		{"tmp", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		// The image may have a link there, or nothing: then it does without.
		fd, err := onefs.OpenDir(root, m.dir)
		if err != nil {
			continue
		}
		err = unix.Mount(m.kind, fmt.Sprintf("/proc/self/fd/%d", fd), m.kind, m.flags, m.options)
		unix.Close(fd)
		switch {
		case err != nil:
		case m.dir == "dev":
			err = devices(filepath.Join(s.Root, "dev"))
		case m.dir == "proc":
			err = guardProc(filepath.Join(s.Root, "proc"))
		}
		if err != nil {
			return fmt.Errorf("mounting %q: %w", "/"+m.dir, err)
		}
	}
	return nil
}

// guardProc makes read-only what in proc, which is ours, is the whole machine's: root owns it, and
// needs no capability to have the kernel run a program of its own on the host.
func guardProc(proc string) error {
	for _, name := range []string{"sys", "sysrq-trigger", "irq", "bus", "fs"} {
		p := filepath.Join(proc, name)
		err := unix.Mount(p, p, "", unix.MS_BIND, "")
		if err == unix.ENOENT {
			continue
		}
		if err == nil {
			err = unix.Mount("", p, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}
		if err != nil {
			return fmt.Errorf("guarding %q: %w", name, err)
		}
	}
	return nil
}

// devices makes what every program expects in the directory dev, which is ours, and then
// keeps more from being made.
func devices(dev string) error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		p := filepath.Join(dev, name)
		if err := errors.Join(unix.Mknod(p, unix.S_IFCHR, int(unix.Mkdev(1, minor))), os.Chmod(p, 0o666)); err != nil {
			return err
		}
	}
	tty := filepath.Join(dev, "tty")
	if err := errors.Join(unix.Mknod(tty, unix.S_IFCHR, int(unix.Mkdev(5, 0))), os.Chmod(tty, 0o666)); err != nil {
		return err
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for dir, m := range map[string][2]string{"pts": {"devpts", "newinstance,ptmxmode=0666,mode=620,gid=5"}, "shm": {"tmpfs", "mode=1777"}} {
		p := filepath.Join(dev, dir)
		if err := os.Mkdir(p, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m[0], p, m[0], unix.MS_NOSUID|unix.MS_NOEXEC, m[1]); err != nil {
			return err
		}
	}
	return unix.Mount("", dev, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, "")
}

// enter makes root the root directory, and the host's go away.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the host's root: %w", err)
	}
	return os.Chdir("/")
}

// resolver lets names be looked up as on the host, without a trace in the layer. It works as well as
// the image lets it: who needs no network needs no names.
func resolver(content []byte) {
	const own, at = "/run/rubus-resolv.conf", "/etc/resolv.conf"
	if target, err := os.Readlink(at); err == nil {
		p := filepath.Clean(filepath.Join("/etc", target))
		if filepath.IsAbs(target) {
			p = filepath.Clean(target)
		}
		if strings.HasPrefix(p, "/run/") {
			_ = os.MkdirAll(filepath.Dir(p), 0o755)
			_ = os.WriteFile(p, content, 0o644)
		}
		return
	}
	if os.WriteFile(own, content, 0o644) == nil {
		_ = unix.Mount(own, at, "", unix.MS_BIND, "")
	}
}

// kept are the capabilities that container engines leave: those of package managers, and no way
// to the host's devices, mounts and modules.
func kept() []uintptr {
	return []uintptr{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
		unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP,
	}
}

func dropCapabilities() error {
	keep := kept()
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("dropping capabilities: %w", err)
		}
	}
	return nil
}

// runCommand runs the command and waits for it, and for what else ends meanwhile.
func runCommand(s spec) (int, error) {
	command := s.Command
	if len(command) == 0 {
		command = []string{"/bin/bash", "-l"}
		if _, err := os.Stat(command[0]); err != nil {
			command = []string{"/bin/sh", "-l"}
		}
	}
	path, err := find(command[0], s.Env)
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{Env: s.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{}}
	if s.Terminal {
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	pid, err := syscall.ForkExec(path, command, attr)
	if err != nil {
		return 0, fmt.Errorf("starting %q in the image: %w%s", command[0], err, unfit(err, machineOf("/"), runtime.GOARCH))
	}
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR || err == nil && got != pid:
		case err != nil:
			return 0, fmt.Errorf("waiting for %q: %w", command[0], err)
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

// find looks a program up in the image's own PATH.
func find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, e := range env {
		dirs, ok := strings.CutPrefix(e, "PATH=")
		for _, dir := range filepath.SplitList(dirs) {
			p := filepath.Join(dir, name)
			if st, err := os.Stat(p); ok && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("the image has no program %q", name)
}

// emulation checks that the image's programs can run here.
func emulation(root string) error {
	const dir = "/proc/sys/fs/binfmt_misc"
	machine := machineOf(root)
	if !isForeign(machine, runtime.GOARCH) {
		return nil
	}
	if _, err := os.Stat(dir + "/status"); err != nil {
		_ = unix.Mount("binfmt_misc", dir, "binfmt_misc", 0, "")
	}
	return registered(machine, dir)
}

// isForeign says whether programs for a machine need an emulator on a host.
func isForeign(machine, host string) bool {
	return machine != "" && machine != host && (machine != "arm" || host != "arm64")
}

// unfit is a reason why a program does not start: not every arm64 processor runs 32-bit programs, and that
// is known only when one is started.
func unfit(err error, machine, host string) string {
	if !errors.Is(err, unix.ENOEXEC) || machine != "arm" || host != "arm64" {
		return ""
	}
	return ": the image is for arm, of which this processor or kernel runs no programs, and no emulator is registered: edit it on another machine"
}

// registered says what is wrong with the emulator of a machine in the directory of binfmt_misc.
func registered(machine, dir string) error {
	entry := map[string]string{"arm64": "qemu-aarch64", "arm": "qemu-arm"}[machine]
	b, err := os.ReadFile(filepath.Join(dir, entry))
	if err != nil || !strings.HasPrefix(string(b), "enabled") {
		return fmt.Errorf("its programs are for %s, and this host can't run them: install qemu-user-static; if it is, \"systemctl restart systemd-binfmt\" registers it", machine)
	}
	for line := range strings.Lines(string(b)) {
		if f, ok := strings.CutPrefix(line, "flags:"); ok && strings.Contains(f, "F") {
			return nil
		}
	}
	return fmt.Errorf("the emulator of %s is not registered with the flag F, so that the image would have to hold it: install qemu-user-static", machine)
}

// machineOf reads for which machine the image's programs are: "arm64", "arm", or "".
func machineOf(root string) string {
	r, err := os.OpenRoot(root)
	if err != nil {
		return ""
	}
	defer r.Close()
	for _, p := range []string{"usr/bin/env", "usr/bin/bash", "usr/bin/dash", "usr/bin/busybox", "bin/busybox"} {
		f, err := r.Open(p)
		if err != nil {
			continue
		}
		head := make([]byte, 20)
		_, err = io.ReadFull(f, head)
		f.Close()
		if err != nil || string(head[:4]) != "\x7fELF" {
			continue
		}
		switch head[18] { // e_machine, of a little-endian file
		case 183:
			return "arm64"
		case 40:
			return "arm"
		}
		return ""
	}
	return ""
}

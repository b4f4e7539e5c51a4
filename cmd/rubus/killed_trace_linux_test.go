package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// changing are the calls that change what is on the disk, but for the text of files: that is
// nowhere in use before it is brought to the disk and its file has got its name.
func changing() []uint32 {
	return []uint32{
		unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
		unix.SYS_MKNODAT, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNCFS, unix.SYS_FTRUNCATE,
	}
}

// mounting are the calls that make, and leave, a root of one's own.
func mounting() []uint32 {
	return []uint32{unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT}
}

// killer runs a command that is killed before one of its calls, and waits until nothing
// that it started is left.
type killer struct {
	calls []uint32
	// inside counts the calls of processes that it started, too; child counts those alone, and
	// the process that makes the call is what is killed.
	inside, child bool

	pid   int
	left  int // calls until it is killed
	begun map[int]bool
}

// killedAt runs a command that is killed, all its threads, before its nth call that changes
// what is on the disk. It says whether it came to that; else the command has ended, well.
// When it returns no process is left of the command.
func (k killer) killedAt(t *testing.T, n int, env []string, name string, args ...string) bool {
	t.Helper()
	st, text := k.run(t, n, env, name, args...)
	if !st.Signaled() && st.ExitStatus() != 0 {
		t.Fatalf("%s %q ends with %d: %s", name, args, st.ExitStatus(), text)
	}
	return st.Signaled()
}

// run is killedAt for any end of the command: how it ended, and what it said.
func (k *killer) run(t *testing.T, n int, env []string, name string, args ...string) (unix.WaitStatus, string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	// A group of its own: this thread waits for all that is in it.
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true, Setpgid: true}
	k.left, k.begun = n, map[int]bool{}
	type end struct {
		status unix.WaitStatus
		err    error
	}
	ended := make(chan end)
	go func() {
		// A thread's own children are those that it waits for, and traces. It ends with this: its
		// filter is for what it starts.
		runtime.LockOSThread()
		if err := stopAt(k.calls); err != nil {
			ended <- end{err: err}
			return
		}
		if err := cmd.Start(); err != nil {
			ended <- end{err: err}
			return
		}
		k.pid = cmd.Process.Pid
		st, err := k.trace()
		_ = cmd.Process.Release()
		ended <- end{st, err}
	}()
	e := <-ended
	text, err := os.ReadFile(log.Name())
	if e.err != nil || err != nil {
		t.Fatalf("tracing %s: %v, %v", name, e.err, err)
	}
	return e.status, string(text)
}

// trace runs what was started to the end of its last process, and says how the first ended.
func (k *killer) trace() (first unix.WaitStatus, err error) {
	for {
		var st unix.WaitStatus
		who, err := unix.Wait4(-k.pid, &st, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return first, nil
		case err != nil:
			return first, fmt.Errorf("waiting: %w", err)
		case st.Exited() || st.Signaled():
			if who == k.pid {
				first = st
			}
			continue
		}
		pass, err := k.stopped(who, st)
		if err != nil {
			return first, err
		}
		if err := unix.PtraceCont(who, pass); err != nil && !errors.Is(err, unix.ESRCH) { // it was killed
			return first, err
		}
	}
}

// stopped is what becomes of a thread that stopped: the signal that it is given.
func (k *killer) stopped(tid int, st unix.WaitStatus) (pass int, err error) {
	if tid == k.pid && !k.begun[tid] {
		k.begun[tid] = true
		const options = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
			unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_EXITKILL
		return 0, unix.PtraceSetOptions(tid, options)
	}
	if st.TrapCause() == unix.PTRACE_EVENT_SECCOMP {
		first, victim := k.isFirst(tid), k.pid
		if k.child {
			first, victim = !first, tid
		}
		if k.inside || first {
			if k.left--; k.left == 0 {
				return 0, unix.Kill(victim, unix.SIGKILL)
			}
		}
		return 0, nil
	}
	// A new thread begins with SIGSTOP; SIGTRAP is that of an exec or of an event. Both are ours.
	if sig := st.StopSignal(); sig != unix.SIGTRAP && sig != unix.SIGSTOP {
		pass = int(sig)
	}
	return pass, nil
}

// isFirst says that a thread is one of the command's own process.
func (k *killer) isFirst(tid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", k.pid, tid))
	return err == nil
}

// stopAt makes what this thread starts stop for its tracer before each of the calls, and at
// none else: a program in Go makes hundreds of others.
func stopAt(calls []uint32) error {
	const toNumber = 0 // where struct seccomp_data has the number of the call
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: toNumber}}
	for _, c := range slices.Sorted(slices.Values(calls)) {
		program = append(
			program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: c},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_TRACE},
		)
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("filtering calls: %w", errno)
	}
	return nil
}

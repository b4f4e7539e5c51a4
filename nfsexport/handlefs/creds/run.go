package creds

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Caller is who makes a call (RFC 5531, appendix A).
type Caller struct {
	UID, GID uint32
	Groups   []uint32 // the supplementary ones
}

// Run runs f with the caller's credentials on its thread: file system uid and
// gid, supplementary groups, and without the capabilities that the kernel takes
// from a file system uid other than 0. For root with root's group, by far the
// most calls, it runs f and nothing else: groups and capabilities make no
// difference to root. f is not run, and EACCES is what it gives, when the kernel does not
// take the caller's ids. What f panics with Run panics with, for others than root as a Defect.
//
// It is stuck when the thread could not take back the server's credentials, and was
// discarded: what f gave is good.
//
// Handles cannot be opened in f: that needs CAP_DAC_READ_SEARCH.
func (c Caller) Run(f func() unix.Errno) (e unix.Errno, stuck bool) {
	if c.UID == 0 && c.GID == 0 {
		return f(), false
	}
	return c.run(f)
}

// run is Run for others. It has a function to itself for what it takes from the heap.
func (c Caller) run(f func() unix.Errno) (unix.Errno, bool) {
	// A goroutine of its own, so that a thread that cannot take back the
	// server's credentials can die: a locked thread ends with its goroutine.
	// The scheduler runs it on this very thread; no other thread is woken.
	r := &running{Caller: c, f: f, done: make(chan unix.Errno, 1)}
	go r.run()
	e := <-r.done
	if r.defect != nil {
		panic(r.defect)
	}
	return e, r.stuck
}

// running is a function that runs as the caller.
type running struct {
	Caller
	f      func() unix.Errno
	done   chan unix.Errno
	stuck  bool
	defect *Defect // it panicked
}

// Defect is a panic of what ran on another goroutine, told on with where it happened.
type Defect struct {
	What  any
	Stack []byte
}

// Error has what it panicked with, and where.
func (d *Defect) Error() string { return fmt.Sprintf("%v\n%s", d.What, d.Stack) }

func (r *running) run() {
	runtime.LockOSThread()
	e := unix.EIO
	defer func() {
		if what := recover(); what != nil {
			r.defect = &Defect{what, debug.Stack()}
		}
		if r.stuck = !restore(); !r.stuck {
			runtime.UnlockOSThread()
		}
		r.done <- e
	}()
	if e = r.assume(); e == 0 {
		e = r.f()
	}
}

// assume takes the caller's credentials. The groups come first: they need
// nothing that setfsuid takes away, but the other way round there would be a
// moment with the caller's uid and root's groups.
func (c *Caller) assume() unix.Errno {
	if c.UID != 0 {
		if e := setgroups(c.Groups); e != 0 {
			return e
		}
	}
	setfs(unix.SYS_SETFSGID, c.GID)
	if setfs(unix.SYS_SETFSGID, ^uint32(0)) != c.GID {
		return unix.EACCES
	}
	if c.UID != 0 {
		setfs(unix.SYS_SETFSUID, c.UID)
		if setfs(unix.SYS_SETFSUID, ^uint32(0)) != c.UID {
			return unix.EACCES
		}
	}
	return 0
}

// restore takes back root's credentials and says whether that worked.
func restore() bool {
	setfs(unix.SYS_SETFSUID, 0)
	setfs(unix.SYS_SETFSGID, 0)
	return setgroups(nil) == 0 && setfs(unix.SYS_SETFSUID, ^uint32(0)) == 0 && setfs(unix.SYS_SETFSGID, ^uint32(0)) == 0
}

// setfs is setfsuid(2) or setfsgid(2) on this thread. They tell no error but
// the id before; an id of -1 changes nothing.
func setfs(call uintptr, id uint32) (before uint32) {
	r, _, _ := unix.RawSyscall(call, uintptr(id), 0, 0)
	return uint32(r)
}

// setgroups is setgroups(2) on this thread alone; syscall.Setgroups would change
// all threads.
func setgroups(groups []uint32) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	return e
}

package handlefs

import (
	"errors"
	"log/slog"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// as runs f with the caller's credentials on its thread: file system uid and
// gid, supplementary groups, and without the capabilities that the kernel takes
// from a file system uid other than 0. For root with root's group, by far the
// most calls, it runs f and nothing else: groups and capabilities make no
// difference to root.
//
// Handles cannot be opened in f: that needs CAP_DAC_READ_SEARCH.
func (o *op) as(f func() unix.Errno) unix.Errno {
	if o.c.UID == 0 && o.c.GID == 0 {
		return f()
	}
	// A goroutine of its own, so that a thread that cannot take back the
	// server's credentials can die: a locked thread ends with its goroutine.
	// The scheduler runs it on this very thread; no other thread is woken.
	done := make(chan unix.Errno, 1)
	go func() {
		runtime.LockOSThread()
		e := o.assume()
		if e == 0 {
			e = f()
		}
		if restore() {
			runtime.UnlockOSThread()
		} else {
			o.fs.event(CredentialsStuck, slog.LevelError, "a thread kept a caller's credentials and is discarded",
				o.exp.ID, errors.New("setfsuid: not restored"))
		}
		done <- e
	}()
	return <-done
}

// assume takes the caller's credentials. The groups come first: they need
// nothing that setfsuid takes away, but the other way round there would be a
// moment with the caller's uid and root's groups.
func (o *op) assume() unix.Errno {
	if o.c.UID != 0 {
		if e := setgroups(o.c.Groups); e != 0 {
			return e
		}
	}
	setfs(unix.SYS_SETFSGID, o.c.GID)
	if setfs(unix.SYS_SETFSGID, ^uint32(0)) != o.c.GID {
		return unix.EACCES
	}
	if o.c.UID != 0 {
		setfs(unix.SYS_SETFSUID, o.c.UID)
		if setfs(unix.SYS_SETFSUID, ^uint32(0)) != o.c.UID {
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

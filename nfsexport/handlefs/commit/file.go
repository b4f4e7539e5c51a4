package commit

import "golang.org/x/sys/unix"

// File brings a file to disk, its data and its attributes. It blocks on the disk.
func File(fd int) unix.Errno { return call(unix.SYS_FSYNC, fd) }

// Data brings a file's data to disk, and of its attributes what is needed to read it. It
// blocks on the disk.
func Data(fd int) unix.Errno { return call(unix.SYS_FDATASYNC, fd) }

// call makes a system call that takes a descriptor alone.
func call(number uintptr, fd int) unix.Errno {
	for {
		if _, _, e := unix.Syscall(number, uintptr(fd), 0, 0); e != unix.EINTR {
			return e
		}
	}
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// actor does ops in a worker's directory.
type actor struct {
	dir  string
	held int // descriptor; -1: none
}

func (a *actor) path(p string) string { return filepath.Join(a.dir, p) }

// do does an op by the system calls that a program would use. m is what there
// was before it.
func (a *actor) do(o *op, m *model) error {
	p := a.path(o.Path)
	switch o.Do {
	case "create":
		fd, err := unix.Open(p, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, o.Mode)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	case "write":
		return a.write(p, o)
	case "mkdir":
		return unix.Mkdir(p, o.Mode)
	case "symlink":
		return unix.Symlink(o.To, p)
	case "fifo":
		return unix.Mknod(p, unix.S_IFIFO|o.Mode, 0)
	case "unlink":
		return unix.Unlink(p)
	case "rmdir":
		return unix.Rmdir(p)
	case "rename":
		return unix.Rename(p, a.path(o.To))
	case "link":
		return unix.Link(p, a.path(o.To))
	case "chmod":
		return unix.Chmod(p, o.Mode)
	case "utimes":
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(o.Time)}, unix.AT_SYMLINK_NOFOLLOW)
	case "truncate":
		return unix.Truncate(p, o.Off)
	case "hold":
		fd, err := unix.Open(p, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			a.held = fd
		}
		return err
	case "heldwrite":
		if _, err := unix.Pwrite(a.held, o.bytes(), o.Off); err != nil {
			return err
		}
		// On its way to the server, and not asked to be on its disk.
		return unix.SyncFileRange(a.held, 0, 0, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	case "heldsync":
		return unix.Fsync(a.held)
	case "release":
		return a.release(m.held)
	}
	return fmt.Errorf("%w: %+v", errModel, *o)
}

func (a *actor) write(p string, o *op) error {
	// With a bad server there may be a fifo: that would wait for ever.
	fd, err := unix.Open(p, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_, err = unix.Pwrite(fd, o.bytes(), o.Off)
	if err == nil && o.Sync {
		err = unix.Fsync(fd)
	}
	if e := unix.Close(fd); err == nil {
		err = e
	}
	return err
}

// release closes the held file after a look at it, by the server's eyes.
func (a *actor) release(n *node) error {
	fd := a.held
	a.held = -1
	err := unix.Fsync(fd)
	if err == nil {
		err = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	}
	if err == nil {
		var got []byte
		if got, err = readAll(fd); err == nil && !bytes.Equal(got, n.data) {
			err = fmt.Errorf("the open file has other content: %s", differ(got, n.data))
		}
	}
	if e := unix.Close(fd); err == nil {
		err = e
	}
	return err
}

func readAll(fd int) ([]byte, error) {
	var got []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Pread(fd, buf, int64(len(got)))
		if err != nil || n == 0 {
			return got, err
		}
		got = append(got, buf[:n]...)
	}
}

// isThere says whether the effect of an op that failed with err is there all
// the same: the op was done, its answer was lost, and so was the server's
// memory of it.
func (a *actor) isThere(o *op, m *model, err error) bool {
	var st unix.Stat_t
	// The client's own idea of the names is no evidence.
	_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	gone := func(p string) bool { return unix.Lstat(a.path(p), &st) == unix.ENOENT }
	is := func(p string, format uint32) bool {
		return unix.Lstat(a.path(p), &st) == nil && st.Mode&unix.S_IFMT == format
	}
	if err == unix.EEXIST {
		switch o.Do {
		case "create":
			return is(o.Path, unix.S_IFREG) && st.Size == 0
		case "mkdir":
			return is(o.Path, unix.S_IFDIR)
		case "fifo":
			return is(o.Path, unix.S_IFIFO)
		case "symlink":
			text, e := os.Readlink(a.path(o.Path))
			return e == nil && text == o.To
		case "link":
			var to unix.Stat_t
			return unix.Lstat(a.path(o.Path), &st) == nil && unix.Lstat(a.path(o.To), &to) == nil && st.Ino == to.Ino
		}
	}
	if err == unix.ENOENT {
		switch o.Do {
		case "unlink", "rmdir":
			return gone(o.Path)
		case "rename":
			return gone(o.Path) && is(o.To, formats[m.find(o.Path).kind])
		}
	}
	return false
}

// formats are the kinds of objects as the kernel names them.
var formats = map[rune]uint32{file: unix.S_IFREG, dir: unix.S_IFDIR, symlink: unix.S_IFLNK, fifo: unix.S_IFIFO}

// differ says where two contents begin to differ.
func differ(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	show := func(b []byte) string { return fmt.Sprintf("%q", b[i:min(i+24, len(b))]) }
	return fmt.Sprintf("%d bytes, want %d; at %d %s, want %s", len(got), len(want), i, show(got), show(want))
}

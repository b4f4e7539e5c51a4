package nfstest

import (
	"encoding/binary"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirClient is a mounted directory.
type dirClient struct {
	dir      string
	uid, gid uint32
	groups   []uint32
}

// Mounted is the file system at dir, seen by root. The process should have a
// umask of 0.
func Mounted(dir string) Client { return &dirClient{dir: dir} }

func (c *dirClient) Kernel() bool { return true }

func (c *dirClient) As(uid, gid uint32, groups ...uint32) Client {
	return &dirClient{c.dir, uid, gid, groups}
}

func (c *dirClient) path(p string) string { return c.dir + "/" + p }

// do runs f on a thread with the user's credentials. The thread dies with it.
func (c *dirClient) do(f func() error) error {
	if c.uid == 0 && c.gid == 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(c.groups)), uintptr(unsafe.Pointer(unsafe.SliceData(c.groups))), 0)
		if e != 0 {
			done <- e
			return
		}
		unix.RawSyscall(unix.SYS_SETFSGID, uintptr(c.gid), 0, 0)
		unix.RawSyscall(unix.SYS_SETFSUID, uintptr(c.uid), 0, 0)
		done <- f()
	}()
	return <-done
}

func (c *dirClient) Open(path string, flags int, mode uint32) (File, error) {
	f := &dirFile{c: c}
	return f, c.do(func() (err error) {
		f.fd, err = unix.Open(c.path(path), flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
		return err
	})
}

func (c *dirClient) Mkdir(path string, mode uint32) error {
	return c.do(func() error { return unix.Mkdir(c.path(path), mode) })
}

func (c *dirClient) Symlink(target, path string) error {
	return c.do(func() error { return unix.Symlink(target, c.path(path)) })
}

func (c *dirClient) Mknod(path string, mode uint32, dev uint64) error {
	return c.do(func() error { return unix.Mknod(c.path(path), mode, int(dev)) })
}

func (c *dirClient) Link(old, path string) error {
	return c.do(func() error { return unix.Link(c.path(old), c.path(path)) })
}

func (c *dirClient) Rename(old, path string) error {
	return c.do(func() error { return unix.Rename(c.path(old), c.path(path)) })
}

func (c *dirClient) Unlink(path string) error {
	return c.do(func() error { return unix.Unlink(c.path(path)) })
}

func (c *dirClient) Rmdir(path string) error {
	return c.do(func() error { return unix.Rmdir(c.path(path)) })
}

func (c *dirClient) Readlink(path string) (s string, err error) {
	err = c.do(func() error {
		b := make([]byte, 8192)
		n, err := unix.Readlink(c.path(path), b)
		s = string(b[:max(n, 0)])
		return err
	})
	return s, err
}

func (c *dirClient) Lstat(path string) (st unix.Stat_t, err error) {
	err = c.do(func() error { return unix.Lstat(c.path(path), &st) })
	return st, err
}

func (c *dirClient) Access(path string, want uint32) error {
	return c.do(func() error { return unix.Faccessat2(unix.AT_FDCWD, c.path(path), want, unix.AT_EACCESS) })
}

func (c *dirClient) Chmod(path string, mode uint32) error {
	return c.do(func() error { return unix.Chmod(c.path(path), mode) })
}

func (c *dirClient) Chown(path string, uid, gid int) error {
	return c.do(func() error { return unix.Lchown(c.path(path), uid, gid) })
}

func (c *dirClient) Utimes(path string, atime, mtime unix.Timespec) error {
	return c.do(func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, c.path(path), []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (c *dirClient) Truncate(path string, size int64) error {
	return c.do(func() error { return unix.Truncate(c.path(path), size) })
}

func (c *dirClient) Statfs() (st unix.Statfs_t, err error) {
	err = c.do(func() error { return unix.Statfs(c.dir, &st) })
	return st, err
}

type dirFile struct {
	c  *dirClient
	fd int
}

func (f *dirFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.c.do(func() error { n, err = unix.Pread(f.fd, p, off); return err })
	return max(n, 0), err
}

func (f *dirFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.c.do(func() error { n, err = unix.Pwrite(f.fd, p, off); return err })
	return max(n, 0), err
}

func (f *dirFile) Sync() error { return unix.Fsync(f.fd) }

func (f *dirFile) Stat() (st unix.Stat_t, err error) { return st, unix.Fstat(f.fd, &st) }

func (f *dirFile) Close() error { return unix.Close(f.fd) }

func (c *dirClient) OpenDir(path string) (Dir, error) {
	d := &dirDir{}
	return d, c.do(func() (err error) {
		d.fd, err = unix.Open(filepath.Clean(c.path(path)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
}

type dirDir struct{ fd int }

func (d *dirDir) Next() ([]Name, error) {
	buf := make([]byte, 4096) // little, so that a listing takes many calls
	for {
		n, err := unix.Getdents(d.fd, buf)
		if err != nil || n <= 0 {
			return nil, err
		}
		if names := parseDirents(buf[:n]); len(names) > 0 {
			return names, nil
		}
	}
}

func (d *dirDir) Close() error { return unix.Close(d.fd) }

func parseDirents(b []byte) (out []Name) {
	for len(b) > 0 {
		n := binary.NativeEndian.Uint16(b[16:])
		name := unix.ByteSliceToString(b[19:n])
		if name != "." && name != ".." {
			out = append(out, Name{name, binary.NativeEndian.Uint64(b)})
		}
		b = b[n:]
	}
	return out
}

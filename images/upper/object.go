package upper

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/layered"
)

// object copies what is no directory: name of the directory in to the name newName of
// the directory out. full is the latter's path in the copy. Whatever its link count, what is
// indexed may have other names: those of the golden file.
func (c *copier) object(in int, name string, indexed bool, out int, newName, full string) error {
	fd, err := onefs.OpenAt(in, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return err
	}
	id := layered.ID{Dev: st.Dev, Ino: st.Ino}
	if first, ok := c.linked[id]; ok {
		err := unix.Linkat(c.dst, first, out, newName, 0)
		// Whiteouts share an inode as far as it goes.
		if !errors.Is(err, unix.EMLINK) || st.Mode&unix.S_IFMT != unix.S_IFCHR {
			return err
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = c.file(in, name, &st, out, newName)
	case unix.S_IFLNK:
		var target string
		if target, err = onefs.Readlink(fd); err == nil {
			err = unix.Symlinkat(target, out, newName)
		}
	case unix.S_IFDIR:
		return unix.EISDIR
	default:
		err = unix.Mknodat(out, newName, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		x, err := onefs.XattrsAt(in, name, keepAttr)
		if err != nil {
			return err
		}
		if err := setAttrsAt(out, newName, &st, x); err != nil {
			return err
		}
	}
	if st.Nlink > 1 || indexed {
		c.linked[id] = full
	}
	c.size.Files++
	c.progress(c.size)
	return nil
}

func (c *copier) file(in int, name string, st *unix.Stat_t, out int, newName string) error {
	src, err := onefs.OpenAt(in, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := onefs.OpenAt(out, newName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := c.content(src, dst, st.Size); err != nil {
		return err
	}
	x, err := onefs.Xattrs(src, keepAttr)
	if err != nil {
		return err
	}
	return setAttrs(dst, st, x)
}

// content copies data and holes, or shares the data where the file system can.
func (c *copier) content(src, dst int, size int64) error {
	if size > 0 && !c.noClone {
		err := unix.IoctlFileClone(dst, src)
		if err == nil {
			var st unix.Stat_t
			if unix.Fstat(src, &st) == nil {
				c.size.Bytes += min(size, st.Blocks*512)
			}
			return nil
		}
		c.noClone = true
	}
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		data, err := unix.Seek(src, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(src, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end = min(end, size)
		for off = data; off < end; {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			to := off
			n, err := unix.CopyFileRange(src, &off, dst, &to, int(min(end-off, 8<<20)), 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return fmt.Errorf("copying data: %w", err)
			}
			if n == 0 {
				return errors.New("it became shorter while it was copied")
			}
			c.size.Bytes += int64(n)
			c.progress(c.size)
		}
	}
	return nil
}

// setAttrs gives an open object owner, mode, attributes and times, in the order in which
// the kernel takes none of them away again.
func setAttrs(fd int, st *unix.Stat_t, xattrs map[string]string) error {
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("setting the owner: %w", err)
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return fmt.Errorf("setting the mode: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		if err := unix.Fsetxattr(fd, name, []byte(xattrs[name]), 0); err != nil {
			return fmt.Errorf("setting the attribute %q: %w", name, err)
		}
	}
	return setTimes(fd, st)
}

func setTimes(fd int, st *unix.Stat_t) error {
	p := fmt.Sprintf("/proc/self/fd/%d", fd)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		return fmt.Errorf("setting the times: %w", err)
	}
	return nil
}

// setAttrsAt is setAttrs for what must not be opened.
func setAttrsAt(out int, newName string, st *unix.Stat_t, xattrs map[string]string) error {
	if err := unix.Fchownat(out, newName, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting the owner: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(out, newName, st.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("setting the mode: %w", err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(xattrs)) {
		if err := unix.Lsetxattr(onefs.ProcPath(out, newName), k, []byte(xattrs[k]), 0); err != nil {
			return fmt.Errorf("setting the attribute %q: %w", k, err)
		}
	}
	if err := unix.UtimesNanoAt(out, newName, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting the times: %w", err)
	}
	return nil
}

// every is how often progress is worth telling.
const every = 100 * time.Millisecond

// Paced makes a progress function that calls f at most ten times a second.
func Paced(f func(Size)) func(Size) {
	var last time.Time
	return func(s Size) {
		if now := time.Now(); now.Sub(last) >= every {
			last = now
			f(s)
		}
	}
}

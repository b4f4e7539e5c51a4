package rootfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Copy is a regular file with all that an image has of one.
type Copy struct {
	Path    string
	Content io.Reader
	// Mode is that of chmod(2): permissions, and the set-id bits.
	Mode     uint32
	UID, GID uint32
	// Xattrs are extended attributes, capabilities and ACLs among them.
	Xattrs  map[string]string
	ModTime time.Time
}

// Put makes a file what c says, on the disk after Sync. Directories that are missing
// are made. Whatever else is at the path but a directory is replaced.
func (r *Root) Put(c Copy) error {
	dir, name, err := r.parent(c.Path, true)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	err = r.replace(dir, c.Path, name, func(tmp string) error {
		fd, err := openAt(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		out := os.NewFile(uintptr(fd), tmp)
		defer out.Close()
		if _, err := io.Copy(out, c.Content); err != nil {
			return err
		}
		// The owner first: a change of it takes set-id bits and capabilities. An ACL
		// comes after the mode, which would change it.
		if err := errors.Join(unix.Fchown(fd, int(c.UID), int(c.GID)), unix.Fchmod(fd, c.Mode&0o7777)); err != nil {
			return err
		}
		for attr, value := range c.Xattrs {
			if err := unix.Fsetxattr(fd, attr, []byte(value), 0); err != nil {
				return &fs.PathError{Op: "setxattr " + attr, Path: c.Path, Err: err}
			}
		}
		t := unix.NsecToTimespec(c.ModTime.UnixNano())
		if err := unix.UtimesNanoAt(dir, tmp, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		return out.Sync()
	})
	if err != nil {
		return &fs.PathError{Op: "write", Path: c.Path, Err: err}
	}
	return nil
}

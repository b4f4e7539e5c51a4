package rootfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File is a regular file as it is to be.
type File struct {
	Path     string
	Data     []byte
	Mode     fs.FileMode // permission bits
	UID, GID uint32
}

// Write makes a file what f says, on the disk after Sync; changed is false when
// it was that before, and then nothing is touched. Directories that are missing are
// made. Whatever else is at the path but a directory is replaced.
func (r *Root) Write(f File) (changed bool, err error) {
	dir, name, err := r.parent(f.Path, true)
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	if isSame(dir, name, f) {
		return false, nil
	}
	err = r.replace(dir, f.Path, name, func(tmp string) error {
		fd, err := openAt(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, uint64(f.Mode.Perm()))
		if err != nil {
			return err
		}
		out := os.NewFile(uintptr(fd), tmp)
		defer out.Close()
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		// Mostly it is root's, and has the mode that it was made with: to say so again
		// would write it twice. The owner first: a change of it takes bits of the mode.
		if st.Uid != f.UID || st.Gid != f.GID {
			if err := unix.Fchown(fd, int(f.UID), int(f.GID)); err != nil {
				return err
			}
		}
		if mode := uint32(f.Mode.Perm()); st.Mode&0o7777 != mode {
			if err := unix.Fchmod(fd, mode); err != nil {
				return err
			}
		}
		if _, err := out.Write(f.Data); err != nil {
			return err
		}
		return out.Sync()
	})
	if err != nil {
		return false, &fs.PathError{Op: "write", Path: f.Path, Err: err}
	}
	return true, nil
}

// isSame says whether a file is already what it is to be.
func isSame(dir int, name string, f File) bool {
	_, info, err := look(dir, name)
	if err != nil || info.Mode != f.Mode.Perm() || info.UID != f.UID || info.GID != f.GID || info.Size != int64(len(f.Data)) {
		return false
	}
	data, _, err := read(dir, name, info.Size)
	return err == nil && bytes.Equal(data, f.Data)
}

// Link makes a path a symbolic link to target, on the disk after Sync.
func (r *Root) Link(path, target string) error {
	dir, name, err := r.parent(path, true)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := r.replace(dir, path, name, func(tmp string) error { return unix.Symlinkat(target, dir, tmp) }); err != nil {
		return &fs.PathError{Op: "symlink", Path: path, Err: err}
	}
	return nil
}

// replace puts what make made under a name of its own in the place of path, which is name
// in dir.
func (r *Root) replace(dir int, path, name string, make func(tmp string) error) error {
	// Always the same name: what a crash left is replaced at the next try.
	tmp := "." + name + ".rubus-new"
	err := make(tmp)
	if errors.Is(err, unix.EEXIST) {
		if err = unix.Unlinkat(dir, tmp, 0); err == nil {
			err = make(tmp)
		}
	}
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, tmp, 0) // it may not be there
		return err
	}
	return r.changed(filepath.Dir(path), dir)
}

// Remove removes a file, on the disk after Sync; one that is not there is none to remove.
func (r *Root) Remove(path string) error {
	dir, name, err := r.parent(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return r.changed(filepath.Dir(path), dir)
}

// Mkdir makes one directory, on the disk when it returns, if nothing is there; those on the way to it must be.
func (r *Root) Mkdir(path string, mode fs.FileMode, uid, gid uint32) error {
	dir, name, err := r.parent(path, false)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if _, info, err := look(dir, name); err == nil {
		if !info.Mode.IsDir() {
			return wayError(path, unix.ENOTDIR)
		}
		return nil
	}
	fd, err := mkdir(dir, name, uint32(mode.Perm()), uid, gid)
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	unix.Close(fd)
	return nil
}

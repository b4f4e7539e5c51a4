package rootfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is an open root. Its methods take paths as the board has them, "/etc/hosts". It is
// for one goroutine.
type Root struct {
	fd int
	// unsynced are directories whose names are not on the disk yet, open, by their paths.
	unsynced map[string]int
}

// Info is what a file is besides its content.
type Info struct {
	Mode     fs.FileMode // type and the permission bits, without setuid and its kin
	UID, GID uint32
	Size     int64
}

// Open opens a root. The directory itself is the caller's: links to it are followed.
func Open(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &Root{fd: fd}, nil
}

// Close closes the root. What was not brought to the disk by Sync may not be there.
func (r *Root) Close() {
	for _, fd := range r.unsynced {
		unix.Close(fd)
	}
	unix.Close(r.fd)
}

// Sync brings to the disk what Write, Put, Link and Remove have done: the content of files
// is there before, so that a power cut leaves the former file or the new one. Of several
// files in one directory their names come together.
func (r *Root) Sync() error {
	var errs []error
	for path, fd := range r.unsynced {
		if err := unix.Fsync(fd); err != nil {
			errs = append(errs, &fs.PathError{Op: "sync", Path: path, Err: err})
		}
		unix.Close(fd)
	}
	r.unsynced = nil
	return errors.Join(errs...)
}

// changed notes that the names of a directory, open as at, are to come to the disk.
func (r *Root) changed(path string, at int) error {
	if _, ok := r.unsynced[path]; ok {
		return nil
	}
	fd, err := openAt(at, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if r.unsynced == nil {
		r.unsynced = map[string]int{}
	}
	r.unsynced[path] = fd
	return nil
}

// openAt opens name below dir without leaving it.
func openAt(dir int, name string, flags uint64, mode uint64) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Mode: mode,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// Split is the directory and the name of a path. A path that is not in its shortest
// form, or is no file's, is an error.
func Split(path string) (dir []string, name string, err error) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, p := range parts {
		if !strings.HasPrefix(path, "/") || p == "" || p == "." || p == ".." || len(p) > 200 || strings.ContainsRune(p, 0) {
			return nil, "", fmt.Errorf("%q: want a path of a file such as /etc/motd", path)
		}
	}
	return parts[:len(parts)-1], parts[len(parts)-1], nil
}

// parent opens the directory of a path and gives the last name. Directories that are
// not there are made when create says so: with the owner of the one they are in.
func (r *Root) parent(path string, create bool) (fd int, name string, err error) {
	dirs, name, err := Split(path)
	if err != nil {
		return -1, "", err
	}
	at, err := openAt(r.fd, strings.Join(append([]string{"."}, dirs...), "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		return at, name, nil
	}
	if errors.Is(err, unix.ENOENT) && !create {
		return -1, "", &fs.PathError{Op: "open", Path: "/" + strings.Join(dirs, "/"), Err: err}
	}
	// Step by step: something is to be made, or said of the way.
	if at, err = openAt(r.fd, ".", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return -1, "", &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	for i, d := range dirs {
		next, err := openAt(at, d, unix.O_PATH|unix.O_DIRECTORY, 0)
		if errors.Is(err, unix.ENOENT) && create {
			next, err = makeDir(at, d)
		}
		unix.Close(at)
		if err != nil {
			return -1, "", wayError("/"+strings.Join(dirs[:i+1], "/"), err)
		}
		at = next
	}
	return at, name, nil
}

// wayError says what is wrong with a directory on the way.
func wayError(dir string, err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		err = fmt.Errorf("it is a symbolic link or no directory, and not followed: %w", err)
	}
	return &fs.PathError{Op: "open", Path: dir, Err: err}
}

// makeDir makes a directory as those of a package are, for the owner of the one it is in.
func makeDir(at int, name string) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return -1, err
	}
	return mkdir(at, name, 0o755, st.Uid, st.Gid)
}

func mkdir(at int, name string, mode uint32, uid, gid uint32) (int, error) {
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return -1, err
	}
	// Not by O_PATH: fchmod and fchown want a descriptor that is open.
	fd, err := openAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(unix.Fchown(fd, int(uid), int(gid)), unix.Fchmod(fd, mode), unix.Fsync(fd), syncAt(at)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// syncAt puts the names of a directory that was opened with O_PATH on the disk.
func syncAt(dir int) error {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// Stat says what is at a path; a symbolic link is one. It may wrap fs.ErrNotExist.
func (r *Root) Stat(path string) (Info, error) {
	dir, name, err := r.parent(path, false)
	if err != nil {
		return Info{}, err
	}
	defer unix.Close(dir)
	_, info, err := look(dir, name)
	if err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return info, nil
}

func look(dir int, name string) (st unix.Stat_t, info Info, err error) {
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, Info{}, err
	}
	info = Info{Mode: fs.FileMode(st.Mode & 0o777), UID: st.Uid, GID: st.Gid, Size: st.Size}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		info.Mode |= fs.ModeDir
	case unix.S_IFLNK:
		info.Mode |= fs.ModeSymlink
	default:
		info.Mode |= fs.ModeIrregular
	}
	return st, info, nil
}

// ErrNotRegular says that something else than a regular file is at a path.
var ErrNotRegular = errors.New("not a regular file")

// Read reads a regular file of limit bytes at most. It may wrap fs.ErrNotExist and
// ErrNotRegular.
func (r *Root) Read(path string, limit int64) ([]byte, Info, error) {
	dir, name, err := r.parent(path, false)
	if err != nil {
		return nil, Info{}, err
	}
	defer unix.Close(dir)
	data, info, err := read(dir, name, limit)
	if err != nil {
		return nil, info, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return data, info, nil
}

func read(dir int, name string, limit int64) ([]byte, Info, error) {
	// Looked at before it is opened: opening a fifo or a device acts on it.
	before, info, err := look(dir, name)
	if err != nil {
		return nil, info, err
	}
	switch {
	case info.Mode.Type() != 0:
		return nil, info, ErrNotRegular
	case info.Size > limit:
		return nil, info, fmt.Errorf("it has %d bytes, more than %d", info.Size, limit)
	}
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, info, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode != before.Mode {
		return nil, info, errors.Join(ErrNotRegular, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return data, info, err
}

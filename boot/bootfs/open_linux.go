package bootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrRefused says that a name leads out of the boot directory, or to
// something that is no regular file.
var ErrRefused = errors.New("refused")

// maxEntries is how many entries of a directory a look for another spelling
// of a name reads; a board's overlays directory has some 300.
const maxEntries = 4096

// maxListed bounds the directories that an Own remembers.
const maxListed = 16

// openDir opens a board's boot directory, O_PATH. No symlink is followed on
// the way: the board's root user could point them at the rest of his root.
func openDir(root, dir string) (int, error) {
	rootFD, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening root %q: %w", root, err)
	}
	defer unix.Close(rootFD)
	fd, err := openat2(rootFD, dir, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, fmt.Errorf("%w: boot directory %q of root %q has a symlink in its path", ErrRefused, dir, root)
	case err != nil:
		return -1, fmt.Errorf("opening boot directory %q of root %q: %w", dir, root, err)
	}
	return fd, nil
}

// openat2 opens path below dir and never leaves it. The kernel asks to try
// again (EAGAIN) when a rename ran beside the walk.
func openat2(dir int, path string, flags uint64, resolve uint64) (int, error) {
	return openIn(dir, path, flags, resolve|unix.RESOLVE_BENEATH)
}

// openIn is openat2 with all of resolve but magic links the caller's.
func openIn(dir int, path string, flags uint64, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, path, &how)
		if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) && try < 16 {
			continue
		}
		return fd, err
	}
}

// open opens a cleaned name below the boot directory. Symlinks count when they
// end below it.
func (v view) open(name string) (*File, error) {
	if v.Files != nil {
		return v.Files.Open(name)
	}
	fd, st, err := v.look(name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	f, err := reopen(fd)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", name, err)
	}
	return fileOf(f, &st), nil
}

// look finds the regular file of a cleaned name, O_PATH. It is looked at before it is
// opened: opening a fifo or a device acts on it.
func (v view) look(name string) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := v.path(name)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err != nil {
		err = fmt.Errorf("looking at %q: %w", name, err)
	} else if st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("%w: %q is no regular file", ErrRefused, name)
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// reopen opens for reading what was found with O_PATH.
func reopen(fd int) (*os.File, error) {
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return f, nil
}

// found is a file that is opened when it is first read: most files of a boot are only
// looked at before it.
type found struct {
	fd   int // O_PATH
	once sync.Once
	file *os.File
	err  error
}

// ReadAt implements io.ReaderAt.
func (f *found) ReadAt(b []byte, off int64) (int, error) {
	f.once.Do(func() { f.file, f.err = reopen(f.fd) })
	if f.err != nil {
		return 0, f.err
	}
	return f.file.ReadAt(b, off)
}

// Close implements io.Closer.
func (f *found) Close() error {
	err := unix.Close(f.fd)
	if f.file != nil {
		err = errors.Join(err, f.file.Close())
	}
	return err
}

// readNow reads what of a file is in the page cache (preadv2(2), RWF_NOWAIT), as far as
// the file system has that: ext4, xfs and btrfs, not an overlay.
func readNow(f *os.File, b []byte, off int64) int {
	if len(b) == 0 {
		return 0
	}
	n, err := unix.Preadv2(int(f.Fd()), [][]byte{b}, off, unix.RWF_NOWAIT)
	if err != nil {
		return 0
	}
	return n
}

// path resolves a name to an O_PATH fd, first as written and then, as FAT
// would, without regard to case.
func (v view) path(name string) (int, error) {
	fd, err := v.resolve(name)
	if errors.Is(err, unix.ENOENT) {
		if other := v.respell(name); other != name {
			fd, err = v.resolve(other)
		}
	}
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		return -1, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
		return -1, fmt.Errorf("%w: %q leads out of the boot directory", ErrRefused, name)
	}
	return -1, fmt.Errorf("opening %q: %w", name, err)
}

// resolve opens a name O_PATH; EXDEV says that it leads out. A symlink may be
// absolute or go by the directories above, to which the board's root is "/":
// where it ends counts.
func (v view) resolve(name string) (int, error) {
	fd, err := openat2(v.dir, name, unix.O_PATH, unix.RESOLVE_NO_XDEV)
	if !errors.Is(err, unix.EXDEV) {
		return fd, err
	}
	root, err := unix.Open(v.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	fd, err = openIn(root, v.BootDir+"/"+name, unix.O_PATH, unix.RESOLVE_NO_XDEV|unix.RESOLVE_IN_ROOT)
	if err != nil {
		return -1, unix.EXDEV
	}
	if !below(v.dir, fd) {
		unix.Close(fd)
		return -1, unix.EXDEV
	}
	return fd, nil
}

// below says whether an open file lies below an open directory now. The board
// may move it at any time; it is its own file all the same.
func below(dir, fd int) bool {
	path := func(fd int) string {
		p, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil {
			return ""
		}
		return p
	}
	above := path(dir)
	return above != "" && strings.HasPrefix(path(fd), above+"/")
}

// respell gives name with each element spelled as an entry of its directory
// that differs in case only; elements without one stay.
func (v view) respell(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parent := strings.Join(parts[:i], "/")
		if entry := spelled(v.entries(parent), part); entry != "" {
			parts[i] = entry
		} else {
			break
		}
	}
	return strings.Join(parts, "/")
}

// entries are the names in directory parent, "" being the boot directory itself.
func (v view) entries(parent string) []string {
	if names, ok := v.listed[parent]; ok {
		return names
	}
	var names []string
	fd, err := openat2(v.dir, "./"+parent, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, unix.RESOLVE_NO_XDEV)
	if err == nil {
		d := os.NewFile(uintptr(fd), parent)
		names, _ = d.Readdirnames(maxEntries) // what could be read is enough
		d.Close()
	}
	if v.listed != nil && len(v.listed) < maxListed {
		v.listed[parent] = names
	}
	return names
}

// spelled is the entry that a name without regard to case means; "": none.
func spelled(entries []string, name string) string {
	if slices.Contains(entries, name) {
		return name
	}
	// Of several spellings always take the same one.
	found := ""
	for _, e := range entries {
		if strings.EqualFold(e, name) && (found == "" || e < found) {
			found = e
		}
	}
	return found
}

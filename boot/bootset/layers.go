package bootset

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/bootfs"
)

// layers are the boot directories of a root's layers, open, to find in them the very
// files that the root shows.
type layers struct {
	upper int         // the board's own writes, O_PATH; -1: nobody can tell what is there
	stack []openLayer // the topmost first
}

type openLayer struct {
	digest string
	dir    int // O_PATH; -1: nobody can tell what this layer has
}

// openLayers opens the directories of layers, the topmost first, and on one file system
// with the root's own files.
func openLayers(m *Mounted, digests []string) *layers {
	g := &layers{}
	var err error
	if g.upper, err = unix.Open(m.Upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		g.upper = -1
	}
	for _, d := range digests {
		l := openLayer{d, -1}
		root, err := unix.Open(m.LayerDir(d), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			l.dir, err = openPath(root, m.BootDir, unix.O_DIRECTORY)
			unix.Close(root)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue // it has none
		}
		g.stack = append(g.stack, l)
	}
	return g
}

func (g *layers) close() {
	if g.upper >= 0 {
		unix.Close(g.upper)
	}
	for _, l := range g.stack {
		if l.dir >= 0 {
			unix.Close(l.dir)
		}
	}
}

// written says whether the board's own writes have something at a path of the root.
func (g *layers) written(path string) bool {
	if g.upper < 0 {
		return true
	}
	fd, err := openPath(g.upper, path, unix.O_NOFOLLOW)
	if err == nil {
		unix.Close(fd)
	}
	return !errors.Is(err, unix.ENOENT)
}

// find looks for a file that was opened in the root, by the name that it has in the boot
// directory: in the topmost layer that has this name, with the same inode, size and time.
func (g *layers) find(name string, f *bootfs.File) (digest string, ok bool) {
	for _, l := range g.stack {
		if l.dir < 0 {
			return "", false
		}
		fd, err := openPath(l.dir, name, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return "", false
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		same := err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG &&
			st.Ino == f.Inode() && st.Size == f.Size() && time.Unix(st.Mtim.Unix()).Equal(f.ModTime())
		return l.digest, same
	}
	return "", false
}

// openPath finds what is below a directory, and follows no link.
func openPath(dir int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, path, &how)
		if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) && try < 16 {
			continue
		}
		if err != nil {
			return -1, err
		}
		return fd, nil
	}
}

package identity

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/rootfile"
	"rubus/images/layered"
)

// Golden is what the image has at a path.
type Golden struct {
	// Exists is false when it has nothing there.
	Exists bool
	// Target is that of a symbolic link; "": it is a regular file, and File says which but
	// for its path. Close, if not nil, is called when it was read.
	Target string
	File   rootfile.Copy
	Close  func() error
}

// GoldenAt is what a stack of layers has at a path.
func GoldenAt(layers []string, path string) (g Golden, err error) {
	v, err := layered.Open(layers)
	if err != nil {
		return g, err
	}
	defer v.Close()
	path = strings.TrimPrefix(path, "/")
	n, err := v.Lookup(path)
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return g, err
	}
	g.Exists = true
	switch n.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		x, err := v.Xattrs(n)
		if err != nil {
			return g, err
		}
		file, err := v.Open(n)
		if err != nil {
			return g, err
		}
		g.Close = file.Close
		g.File = rootfile.Copy{
			Content: file, Mode: n.Stat.Mode & 0o7777, UID: n.Stat.Uid, GID: n.Stat.Gid,
			Xattrs: x, ModTime: time.Unix(n.Stat.Mtim.Unix()),
		}
	case unix.S_IFLNK:
		g.Target, err = v.Readlink(n)
	default:
		err = errors.New("it is neither a file nor a link")
	}
	return g, err
}

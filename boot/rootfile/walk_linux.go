package rootfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrMany says that a tree has more entries than are looked at.
var ErrMany = errors.New("too many entries")

// Digest is a digest of what lies below a directory: of the names and of what changes
// when they or what they name are changed. It reads no content. A tree with more than
// limit entries is ErrMany.
func Digest(dir string, limit int) (string, error) {
	r, err := Open(dir)
	if err != nil {
		return "", err
	}
	defer r.Close()
	d := digester{hash: sha256.New(), left: limit}
	if err := d.dir(r.fd, "."); err != nil {
		return "", fmt.Errorf("looking through %q: %w", dir, err)
	}
	return hex.EncodeToString(d.hash.Sum(nil)), nil
}

type digester struct {
	hash hash.Hash
	left int
}

func (d *digester) dir(at int, name string) error {
	fd, err := openAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(d.left + 1)
	if errors.Is(err, io.EOF) {
		err = nil // there are none
	}
	if d.left -= len(names); d.left < 0 {
		return ErrMany
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		fmt.Fprintf(d.hash, "%q %o %d %d %d %d %v", n, st.Mode, st.Uid, st.Gid, st.Ino, st.Rdev, st.Mtim)
		if !isDir {
			// No board can set it. overlayfs takes attributes from directories by itself,
			// which changes theirs.
			fmt.Fprintf(d.hash, " %d %d %v", st.Nlink, st.Size, st.Ctim)
		}
		fmt.Fprint(d.hash, "\n")
		if isDir {
			if err := d.dir(fd, n); err != nil {
				return err
			}
			fmt.Fprint(d.hash, "..\n")
		}
	}
	return nil
}

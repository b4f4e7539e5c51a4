package layered

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// The index of an upper has a file for each golden object that was copied up.
// Its name is, in hex, how overlayfs writes a file handle down (struct ovl_fb of
// fs/overlayfs/overlayfs.h): version, magic, length, flags, handle type, the 16
// bytes of the file system's UUID, the handle. The attribute "origin" of a copy
// says the same in binary.
const (
	fbHead  = 21
	fbMagic = 0xfb
)

// parseOrigin gives the kernel's file handle in what overlayfs wrote.
func parseOrigin(b []byte) (unix.FileHandle, bool) {
	if len(b) <= fbHead || b[0] != 0 || b[1] != fbMagic || int(b[2]) != len(b) {
		return unix.FileHandle{}, false
	}
	const bigEndian, anyEndian = 1, 2
	if big := binary.NativeEndian.Uint16([]byte{0, 1}) == 1; b[3]&anyEndian == 0 && (b[3]&bigEndian != 0) != big {
		return unix.FileHandle{}, false
	}
	return unix.NewFileHandle(int32(b[4]), b[fbHead:]), true
}

// golden opens the object of the layers that a handle is of, and says which it is.
func (v *View) golden(h unix.FileHandle) (ID, bool) {
	first := 0
	if v.upper {
		first = 1
	}
	for _, root := range v.layers[first:] {
		fd, err := unix.OpenByHandleAt(root, h, unix.O_PATH|unix.O_CLOEXEC)
		if err != nil {
			continue
		}
		st, err := onefs.Fstat(fd)
		unix.Close(fd)
		if err == nil {
			return ID{st.Dev, st.Ino}, true
		}
	}
	return ID{}, false
}

// readIndex finds the copies, and where the layers have names of what they
// stand for.
func (v *View) readIndex(work string) error {
	fd, err := onefs.OpenRoot(filepath.Join(work, "index"))
	if errors.Is(err, unix.ENOENT) {
		return nil // never mounted
	}
	if err != nil {
		return err
	}
	v.index = fd
	list, err := onefs.OpenDir(fd, "")
	if err != nil {
		return err
	}
	defer unix.Close(list)
	names, err := onefs.List(list)
	if err != nil {
		return err
	}
	for _, e := range names {
		if strings.HasPrefix(e.Name, "#") || e.Type == unix.DT_DIR || e.Type == unix.DT_CHR {
			continue // half made; a directory's; a whiteout, or a device that no golden file is
		}
		b, err := hex.DecodeString(e.Name)
		if err != nil {
			continue
		}
		h, ok := parseOrigin(b)
		if !ok {
			continue
		}
		if id, ok := v.golden(h); ok {
			v.copies[id] = e.Name
			continue
		}
		v.lost++
		var st unix.Stat_t
		if unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Nlink == 1 {
			v.lone++
		}
	}
	if len(v.copies) == 0 {
		return nil
	}
	first := 0
	if v.upper {
		first = 1
	}
	for _, root := range v.layers[first:] {
		if _, err := v.touch(root, ""); err != nil {
			return err
		}
	}
	return nil
}

// Lost counts the entries of the index of which nobody can tell what they stand for, since
// the layers are copies of those that the upper was written over. lone are those
// that have no name in the upper.
func (v *View) Lost() (all, lone int) { return v.lost, v.lone }

// touch notes the directories of a layer below which there is a name of a copy.
func (v *View) touch(root int, p string) (bool, error) {
	fd, err := onefs.OpenDir(root, p)
	if err != nil {
		return false, fmt.Errorf("reading %q of a layer: %w", p, err)
	}
	st, err := onefs.Fstat(fd)
	var names []onefs.Dirent
	if err == nil {
		names, err = onefs.List(fd)
	}
	unix.Close(fd)
	if err != nil {
		return false, fmt.Errorf("reading %q of a layer: %w", p, err)
	}
	touched := false
	for _, e := range names {
		if e.Type == unix.DT_DIR {
			below, err := v.touch(root, join(p, e.Name))
			if err != nil {
				return false, err
			}
			touched = touched || below
		} else if _, ok := v.copies[ID{st.Dev, e.Ino}]; ok {
			touched = true
		}
	}
	if touched {
		v.touched[ID{st.Dev, st.Ino}] = true
	}
	return touched, nil
}

// throughIndex makes n, which a layer has, the copy of it that the index has.
func (v *View) throughIndex(n *Node) error {
	if v.upper && n.layer == 0 {
		return nil
	}
	name, ok := v.copies[n.ID()]
	if !ok {
		return nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(v.index, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return nil // the board took its last name away, and the index entry with it
	case err != nil:
		return fmt.Errorf("looking at the copy of %q: %w", "/"+n.Path, err)
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
		return nil
	}
	n.Stat, n.real, n.indexed = st, name, true
	return nil
}

// MayHaveAliases says whether names below a directory may show through the index:
// if not, there is no need to look.
func (v *View) MayHaveAliases(n *Node) bool {
	_, has := v.UpperPath(n)
	return len(v.copies) > 0 && (has || v.isTouched(n))
}

// IndexFile is where the index has the file that n, Indexed, shows: the open
// directory and the name in it. It is valid until Close.
func (v *View) IndexFile(n *Node) (dir int, name string) { return v.index, n.real }

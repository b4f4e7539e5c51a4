package onefs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Xattrs reads the extended attributes of an open file. Those for which keep
// says no are left out; keep may be nil. A file system without any gives none.
func Xattrs(fd int, keep func(name string) bool) (map[string]string, error) {
	return xattrs(keep,
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// XattrsAt is Xattrs for what must not be opened: a symbolic link, a device.
func XattrsAt(dirfd int, name string, keep func(name string) bool) (map[string]string, error) {
	path := ProcPath(dirfd, name)
	return xattrs(keep,
		func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(name string, b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

func xattrs(keep func(string) bool, list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string]string, error) {
	// Most files have none: a small buffer on the stack answers for them.
	var small [256]byte
	names, err := grow(small[:], list)
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil || len(names) == 0 {
		return nil, err
	}
	var out map[string]string
	for name := range strings.SplitSeq(strings.TrimRight(string(names), "\x00"), "\x00") {
		if keep != nil && !keep(name) {
			continue
		}
		var value [256]byte
		v, err := grow(value[:], func(b []byte) (int, error) { return get(name, b) })
		if err == unix.ENODATA {
			continue // removed since the list was made
		}
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[name] = string(v)
	}
	return out, nil
}

// grow calls a function that fills a buffer, with a larger one when it was too
// small. The kernel bounds both lists and values at 64 KiB.
func grow(b []byte, fill func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := fill(b)
		switch {
		case err == unix.EINTR:
		case err == unix.ERANGE && len(b) < 1<<17:
			b = make([]byte, 4*len(b))
		case err != nil:
			return nil, err
		default:
			return b[:n], nil
		}
	}
}

package emulator

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// entry is a file or, when its mode says so, a directory of an archive.
type entry struct {
	name string
	mode fs.FileMode
	data []byte
}

// cpio is an archive in the "newc" format of Linux' initramfs (kernel
// documentation, driver-api/early-userspace/buffer-format). Directories come
// before what is in them: the kernel makes none by itself.
func cpio(files []entry) []byte {
	var b []byte
	made := map[string]bool{".": true}
	inode := 0
	add := func(name string, mode uint32, links int, data []byte) {
		inode++
		b = newc(b, inode, name, mode, links, data)
	}
	var dirs func(string)
	dirs = func(dir string) {
		if !made[dir] {
			dirs(path.Dir(dir))
			made[dir] = true
			add(dir, 0o040755, 2, nil)
		}
	}
	for _, f := range files {
		name := strings.TrimPrefix(path.Clean(f.name), "/")
		dirs(path.Dir(name))
		add(name, 0o100000|uint32(f.mode.Perm()), 1, f.data)
	}
	b = newc(b, 0, "TRAILER!!!", 0, 1, nil)
	return pad(b, 512)
}

// newc appends one member: 13 numbers of 8 hex digits behind the magic number,
// the name and the data, both padded to 4 bytes.
func newc(b []byte, inode int, name string, mode uint32, links int, data []byte) []byte {
	const magic = "070701"
	b = append(b, magic...)
	for _, n := range []uint32{
		uint32(inode), mode, 0, 0, uint32(links), 0, uint32(len(data)), // ino mode uid gid nlink mtime filesize
		0, 0, 0, 0, uint32(len(name) + 1), 0, // devmajor devminor rdevmajor rdevminor namesize check
	} {
		b = fmt.Appendf(b, "%08x", n)
	}
	b = pad(append(append(b, name...), 0), 4)
	return pad(append(b, data...), 4)
}

func pad(b []byte, to int) []byte {
	for len(b)%to != 0 {
		b = append(b, 0)
	}
	return b
}

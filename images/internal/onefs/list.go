package onefs

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Dirent is one name in a directory.
type Dirent struct {
	Name string
	// Type is the kernel's DT_ value; DT_UNKNOWN where the file system keeps none.
	Type uint8
	// Ino is the inode number; that of a mount point is the directory's below.
	Ino uint64
}

// List reads all names of the directory fd but "." and "..", in the order of
// the file system. It begins where fd stands: at the start, for a new one.
func List(fd int) ([]Dirent, error) {
	var out []Dirent
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return out, err
		}
		out = appendDirents(out, buf[:n])
	}
}

// appendDirents decodes linux_dirent64 records: u64 inode, s64 offset, u16
// record length, u8 type, then the name, which ends with NUL.
func appendDirents(out []Dirent, b []byte) []Dirent {
	const head = 19
	for len(b) >= head {
		length := int(binary.NativeEndian.Uint16(b[16:]))
		if length < head || length > len(b) {
			return out
		}
		name := b[head:length]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if s := string(name); s != "." && s != ".." {
			out = append(out, Dirent{Name: s, Type: b[18], Ino: binary.NativeEndian.Uint64(b)})
		}
		b = b[length:]
	}
	return out
}

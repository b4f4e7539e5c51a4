package rawfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// ReadDir fills buf with the next entries of the directory fd, see Dirent.Next; 0: there are
// no more. buf has room for one at least: 280 bytes.
func ReadDir(fd int, buf []byte) (int, unix.Errno) {
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), Errno(err)
	}
}

// Dirent is an entry of a directory.
type Dirent struct {
	Ino  uint64
	Type uint8  // DT_DIR and so on; DT_UNKNOWN: its file system does not say
	Name []byte // a part of the buffer
}

// IsDots says whether it is one of the two entries that every directory has.
func (d *Dirent) IsDots() bool { return string(d.Name) == "." || string(d.Name) == ".." }

// direntHeader is what comes before the name in getdents64(2): inode number, offset, length
// of the entry (16 bits at 16), type.
const direntHeader = 19

// Next takes the first entry of what ReadDir gave into d, and gives the rest; false: there
// is none, or not all of it.
func (d *Dirent) Next(buf []byte) (rest []byte, ok bool) {
	if len(buf) < direntHeader {
		return nil, false
	}
	n := int(binary.NativeEndian.Uint16(buf[16:]))
	if n < direntHeader || n > len(buf) {
		return nil, false
	}
	d.Ino, d.Type = binary.NativeEndian.Uint64(buf), buf[18]
	d.Name = buf[direntHeader:n]
	// Entries begin at multiples of 8, so a name has 8 bytes of zeros behind it at most.
	for i := max(0, n-direntHeader-8); i < len(d.Name); i++ {
		if d.Name[i] == 0 {
			d.Name = d.Name[:i]
		}
	}
	return buf[n:], true
}

package overlay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	oDirectory = unix.O_DIRECTORY
	// noFSID stands for a file system that doesn't say who it is.
	noFSID = "-"
)

// handleOf is the kernel's file handle of an open file: type and bytes in hex.
func handleOf(f *os.File) (string, error) {
	h, _, err := unix.NameToHandleAt(int(f.Fd()), "", unix.AT_EMPTY_PATH)
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = fmt.Errorf("%w: the file system has no file handles; keep rubus' state on ext4, xfs or btrfs", err)
		}
		return "", fmt.Errorf("taking its file handle: %w", err)
	}
	return fmt.Sprintf("%x:", uint32(h.Type())) + hex.EncodeToString(h.Bytes()), nil
}

// ioctls that give the UUID of the file system a file is on: the general one
// of kernel 6.9, ext4's of 6.0, and xfs' geometry, which has the UUID behind
// eight 32-bit and four 64-bit numbers.
const (
	fsIOCGetFSUUID    = 0x80111500 // struct fsuuid2: length, 16 bytes
	ext4IOCGetFSUUID  = 0x8008662c // struct fsuuid: length, flags, bytes
	xfsIOCFSGeometry1 = 0x80705864 // struct xfs_fsop_geom_v1: 112 bytes
	xfsUUIDOffset     = 64
)

// fileSystemID is the UUID of the file system in hex, or noFSID. The f_fsid of
// statfs won't do: xfs makes it of the device number.
func fileSystemID(f *os.File) string {
	var general struct {
		length uint8
		uuid   [16]byte
	}
	if ioctl(f, fsIOCGetFSUUID, unsafe.Pointer(&general)) && general.length == 16 {
		return hex.EncodeToString(general.uuid[:])
	}
	ext4 := struct {
		length, flags uint32
		uuid          [16]byte
	}{length: 16}
	if ioctl(f, ext4IOCGetFSUUID, unsafe.Pointer(&ext4)) && ext4.length == 16 {
		return hex.EncodeToString(ext4.uuid[:])
	}
	var xfs [112]byte
	if ioctl(f, xfsIOCFSGeometry1, unsafe.Pointer(&xfs)) {
		return hex.EncodeToString(xfs[xfsUUIDOffset : xfsUUIDOffset+16])
	}
	return noFSID
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	return errno == 0
}

package projquota

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Project is the number of a project; 0 is that of all that has none.
type Project uint32

// Space is an amount of disk space: bytes and inodes.
type Space struct{ Bytes, Files int64 }

// Enforced says whether the file system of a directory keeps projects to their
// limits. An error says that it cannot be asked.
func Enforced(dir string) (bool, error) {
	fd, err := open(dir)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st quotaState
	st.version = stateVersion
	err = quotactl(fd, getState, 0, unsafe.Pointer(&st))
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV):
		return false, nil // a kernel or file system without quotas
	case err != nil:
		return false, fmt.Errorf("asking %q for its quotas: %w", dir, err)
	}
	return st.flags&(projectCounted|projectEnforced) == projectCounted|projectEnforced, nil
}

// Of is the project of a directory, when what is made in it joins that; else 0.
func Of(dir string) (Project, error) {
	fd, err := open(dir)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var a attributes
	err = ioctl(fd, getAttributes, &a)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the project of %q: %w", dir, err)
	}
	if a.flags&inherit == 0 {
		return 0, nil
	}
	return Project(a.project), nil
}

// Join makes a directory a project's, and with it what is made in it from now on.
// Project 0 takes it out again.
func Join(dir string, p Project) error {
	fd, err := open(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var a attributes
	if err = ioctl(fd, getAttributes, &a); err == nil {
		a.project = uint32(p)
		if a.flags |= inherit; p == 0 {
			a.flags &^= inherit
		}
		err = ioctl(fd, setAttributes, &a)
	}
	if err != nil {
		return fmt.Errorf("making %q a part of project %d: %w", dir, p, err)
	}
	return nil
}

// Used is what a project has on the file system of a directory, and its limit.
func Used(dir string, p Project) (used, limit Space, err error) {
	fd, err := open(dir)
	if err != nil {
		return Space{}, Space{}, err
	}
	defer unix.Close(fd)
	var q diskQuota
	err = quotactl(fd, getQuota, p, unsafe.Pointer(&q))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return Space{}, Space{}, nil // xfs has nothing written down for it
	}
	if err != nil {
		return Space{}, Space{}, fmt.Errorf("asking what project %d has at %q: %w", p, dir, err)
	}
	return Space{int64(q.blocks) * 512, int64(q.inodes)}, Space{int64(q.blockHard) * 512, int64(q.inodeHard)}, nil
}

// Limit sets a project's limit on the file system of a directory; 0 is none. It holds
// at once, for those too who have more already.
func Limit(dir string, p Project, limit Space) error {
	fd, err := open(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	q := diskQuota{
		version: 1, flags: ofProject, fields: setInodeHard | setInodeSoft | setBlockHard | setBlockSoft, id: uint32(p),
		blockHard: uint64(limit.Bytes+511) / 512, inodeHard: uint64(limit.Files),
	}
	if err := quotactl(fd, setLimit, p, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("limiting project %d at %q: %w", p, dir, err)
	}
	return nil
}

func open(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening %q: %w", dir, err)
	}
	return fd, nil
}

// Commands and flags of linux/quota.h, linux/dqblk_xfs.h and linux/fs.h.
const (
	xCommand    = 'X' << 8
	projectType = 2 // PRJQUOTA

	getQuota = xCommand + 3
	setLimit = xCommand + 4
	getState = xCommand + 8 // Q_XGETQSTATV

	stateVersion    = 1
	projectCounted  = 1 << 4
	projectEnforced = 1 << 5

	ofProject    = 1 << 1
	setInodeSoft = 1 << 0
	setInodeHard = 1 << 1
	setBlockSoft = 1 << 2
	setBlockHard = 1 << 3

	getAttributes = 0x801c581f // FS_IOC_FSGETXATTR
	setAttributes = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit       = 0x200      // FS_XFLAG_PROJINHERIT
)

// attributes is struct fsxattr.
type attributes struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

// diskQuota is struct fs_disk_quota. Blocks are of 512 bytes.
type diskQuota struct {
	version, flags                             int8
	fields                                     uint16
	id                                         uint32
	blockHard, blockSoft, inodeHard, inodeSoft uint64
	blocks, inodes                             uint64
	_                                          [56]byte // timers, warnings, real-time blocks
}

// quotaState is struct fs_quota_statv as far as it is asked for.
type quotaState struct {
	version int8
	_       uint8
	flags   uint16
	_       [252]byte
}

func quotactl(fd, cmd int, p Project, arg unsafe.Pointer) error {
	_, _, e := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), uintptr(cmd<<8|projectType), uintptr(p), uintptr(arg), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

func ioctl(fd int, req uint, a *attributes) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(unsafe.Pointer(a)))
	if e != 0 {
		return e
	}
	return nil
}

package bootset

import (
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// openIn opens a path in a board's root, to which that root is "/": links in it
// are the board's, and lead nowhere else.
func openIn(root, path string, flags uint64) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return unix.Openat2(dir, path, &unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// maxModuleDirs bounds the kernels of a root that are looked at.
const maxModuleDirs = 256

// modulesOf lists the kernel releases that a root has modules of.
func modulesOf(root string) []string {
	fd, err := openIn(root, "lib/modules", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
	d := os.NewFile(uintptr(fd), "lib/modules")
	defer d.Close()
	entries, _ := d.ReadDir(maxModuleDirs) // what could be read is enough
	var out []string
	for _, e := range entries {
		// A directory that a removed package left has no such list.
		if e.IsDir() && exists(root, path.Join("lib/modules", e.Name(), "modules.dep")) || e.IsDir() && exists(root, path.Join("lib/modules", e.Name(), "kernel")) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out
}

func exists(root, path string) bool {
	fd, err := openIn(root, path, unix.O_PATH)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// BootedUnit is the unit in a root that reports a boot.
const BootedUnit = "etc/systemd/system/multi-user.target.wants/rubus-booted.service"

// bootedFile is where it writes the boot's id.
const bootedFile = "var/lib/rubus/booted"

// Reported is what a root says of its last boot, and when it wrote that.
func Reported(root string) (id string, at time.Time) {
	// Looked at before it is opened: opening a fifo or a device acts on it.
	fd, err := openIn(root, bootedFile, unix.O_PATH)
	if err != nil {
		return "", time.Time{}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 64 {
		return "", time.Time{}
	}
	fd2, err := openIn(root, bootedFile, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW)
	if err != nil {
		return "", time.Time{}
	}
	defer unix.Close(fd2)
	var buf [64]byte
	n, err := unix.Read(fd2, buf[:])
	if err != nil {
		return "", time.Time{}
	}
	return strings.TrimSpace(string(buf[:n])), time.Unix(st.Ctim.Unix())
}

// InitInode is the inode of the program a Linux kernel starts as init in a
// root; 0 when there is none. Symlinks are the board's: they stay in the root.
func InitInode(root string) uint64 {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(dir)
	for _, name := range []string{"sbin/init", "etc/init", "bin/init"} {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			return st.Ino
		}
	}
	return 0
}

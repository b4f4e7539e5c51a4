package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// verifyWritable says why a mount is read-only, without an error of the kernel's: it could
// not make a directory in the work directory, as it does at each mount.
func verifyWritable(plan MountPlan) error {
	var root, work unix.Statfs_t
	if err := errors.Join(unix.Statfs(plan.Target, &root), unix.Statfs(plan.Work, &work)); err != nil {
		return fmt.Errorf("looking at the new mount: %w", err)
	}
	switch {
	case root.Flags&unix.ST_RDONLY == 0:
		return nil
	case work.Flags&unix.ST_RDONLY != 0:
		return fmt.Errorf("the file system of %q is mounted read-only: %w", plan.Work, unix.EROFS)
	}
	return fmt.Errorf("the kernel could not make its directory in %q: %w: make room (%d KiB are free)", plan.Work, unix.ENOSPC, work.Bavail*uint64(work.Bsize)>>10)
}

// verifyOptions says which of the wanted options a mount doesn't have. The
// kernel drops options without an error when the layers don't allow them.
func verifyOptions(m *mountinfo.Info, want []Option) error {
	for _, o := range want {
		got, shown := superOption(m, o.Key)
		if !shown {
			// mountinfo leaves out what is the module's default.
			got = moduleDefault(o.Key)
		}
		if got != o.Value {
			return fmt.Errorf("the kernel dropped %s=%s: %s", o.Key, o.Value, droppedHint(o.Key))
		}
	}
	return nil
}

func droppedHint(key string) string {
	switch key {
	case "index", "nfs_export":
		return "all layers and the upper must lie on file systems with file handles and a UUID of their own (no clone of another one that is mounted), and not in a user namespace; see dmesg"
	case "xino":
		return "layers and upper lie on file systems whose inode numbers can't be told apart: keep rubus' state on one file system"
	}
	return "see dmesg"
}

// moduleDefault is what an option is when mountinfo doesn't show it.
func moduleDefault(key string) string {
	parameter := key
	if key == "xino" {
		parameter = "xino_auto"
	}
	b, err := os.ReadFile(filepath.Join("/sys/module/overlay/parameters", parameter))
	on := err == nil && strings.TrimSpace(string(b)) == "Y"
	switch {
	case key == "xino" && on:
		return "auto"
	case key == "redirect_dir" && !on:
		return "follow" // or nofollow; not on in either case
	case on:
		return "on"
	}
	return "off"
}

// handleTypeOverlay is the type of a file handle that overlayfs made
// (OVL_FILEID_V1); other types are those of the layers' file system.
const handleTypeOverlay = 0xf8

// verifyHandles takes a handle of the root, as NFS will, and opens it.
func verifyHandles(target string) error {
	root, err := os.OpenFile(target, os.O_RDONLY|oDirectory, 0)
	if err != nil {
		return fmt.Errorf("opening the root: %w", err)
	}
	defer root.Close()
	h, _, err := unix.NameToHandleAt(int(root.Fd()), "", unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("taking the root's file handle: %w", err)
	}
	if h.Type() != handleTypeOverlay {
		return fmt.Errorf("the root's file handle has type %#x, want %#x", h.Type(), handleTypeOverlay)
	}
	fd, err := unix.OpenByHandleAt(int(root.Fd()), h, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("opening the root by its file handle: %w", err)
	}
	defer unix.Close(fd)
	var byHandle, byPath unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &byHandle), unix.Fstat(int(root.Fd()), &byPath)); err != nil {
		return fmt.Errorf("looking at the root: %w", err)
	}
	if byHandle.Dev != byPath.Dev || byHandle.Ino != byPath.Ino {
		return errors.New("the root's file handle opens something else")
	}
	return nil
}

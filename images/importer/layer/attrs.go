package layer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// SetAttrs gives an open file or directory the attributes of e, and e those that it
// then has: so a tree is described as it is. The order matters: chown clears
// setuid and capabilities, and all of it but futimens changes times.
func SetAttrs(fd int, e *treesum.Entry) error {
	if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
		return fmt.Errorf("changing the owner: %w", err)
	}
	if err := unix.Fchmod(fd, e.Mode); err != nil {
		return fmt.Errorf("changing the mode: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		if err := unix.Fsetxattr(fd, name, []byte(e.Xattrs[name]), 0); err != nil {
			return xattrError(name, err)
		}
	}
	ts := times(e)
	if err := futimens(fd, ts); err != nil {
		return fmt.Errorf("changing the times: %w", err)
	}
	st, err := onefs.Fstat(fd)
	if err != nil {
		return err
	}
	if e.Sec != st.Mtim.Sec || e.Nsec != st.Mtim.Nsec {
		return fmt.Errorf("the store's file system can't keep the time %d.%09d: use ext4 or xfs", e.Sec, e.Nsec)
	}
	// An access control list has its own say about the mode.
	e.Mode = st.Mode & 0o7777
	return nil
}

// setAttrsAt is SetAttrs for what must not be opened.
func setAttrsAt(dirfd int, name string, e *treesum.Entry) error {
	if err := unix.Fchownat(dirfd, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("changing the owner: %w", err)
	}
	if e.Type == treesum.Symlink {
		e.Mode = 0o777
	} else if err := unix.Fchmodat(dirfd, name, e.Mode, 0); err != nil {
		return fmt.Errorf("changing the mode: %w", err)
	}
	for _, x := range slices.Sorted(maps.Keys(e.Xattrs)) {
		if err := unix.Lsetxattr(onefs.ProcPath(dirfd, name), x, []byte(e.Xattrs[x]), 0); err != nil {
			return xattrError(x, err)
		}
	}
	if err := unix.UtimesNanoAt(dirfd, name, times(e), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("changing the times: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if e.Sec != st.Mtim.Sec || e.Nsec != st.Mtim.Nsec {
		return fmt.Errorf("the store's file system can't keep the time %d.%09d: use ext4 or xfs", e.Sec, e.Nsec)
	}
	if e.Type != treesum.Symlink {
		e.Mode = st.Mode & 0o7777
	}
	return nil
}

// times are those of access and of change: the former is set too, so that it
// says nothing about when the import was.
func times(e *treesum.Entry) []unix.Timespec {
	t := unix.Timespec{Sec: e.Sec, Nsec: e.Nsec}
	return []unix.Timespec{t, t}
}

func xattrError(name string, err error) error {
	if err == unix.ENOTSUP {
		return fmt.Errorf("the store's file system can't keep the attribute %q here: use ext4 or xfs", name)
	}
	return fmt.Errorf("setting the attribute %q: %w", name, err)
}

// KeepXattr says whether an attribute of the source goes into the layer, and
// notes what doesn't. What overlayfs notes for itself would change what a lower means.
func KeepXattr(n *Notes, path, name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		n.Add("attributes of overlayfs were left out", path+" "+name)
		return false
	case !treesum.Counted(name):
		n.Add("attributes that belong to the machine they were set on were left out", path+" "+name)
		return false
	}
	return true
}

// Reading explains an error about a file of the source.
func Reading(p string, err error) error { return fmt.Errorf("reading %q: %w", p, err) }

package overlay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountTable reads the mounts of our namespace, the oldest first.
func mountTable() ([]*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("reading mountinfo: %w", err)
	}
	return mounts, nil
}

// Mounted lists the overlays of ours that are mounted in our mount namespace.
// It is how roots are found again after a restart.
func Mounted() ([]Root, error) {
	mounts, err := mountTable()
	if err != nil {
		return nil, err
	}
	var roots []Root
	for _, m := range mounts {
		if root, ok := rootFrom(m); ok {
			roots = append(roots, root)
		}
	}
	return roots, nil
}

func rootFrom(m *mountinfo.Info) (Root, bool) {
	root, ok := parseSource(m.Source)
	if !ok || m.FSType != "overlay" || m.Root != "/" {
		return Root{}, false
	}
	root.Target, root.MountID = m.Mountpoint, m.ID
	return root, true
}

// mountAt finds what is mounted on top at a mount point; nil is nothing.
func mountAt(target string) (*mountinfo.Info, error) {
	real := realPath(target) // as mountinfo shows it
	m, err := topMount(target, real)
	if errors.Is(err, errNoStatMount) || m != nil && m.Source == "" {
		return mountInTable(real)
	}
	return m, err
}

// mountJustMade is mountAt for what this process mounted from source a moment ago, where
// nothing was.
func mountJustMade(target, source string) (*mountinfo.Info, error) {
	real := realPath(target)
	m, err := topMount(target, real)
	if m != nil && m.Source == "" {
		m.Source = source
	}
	if !errors.Is(err, errNoStatMount) {
		return m, err
	}
	return mountInTable(real)
}

// mountInTable is mountAt for any kernel. target is a path without links.
func mountInTable(target string) (*mountinfo.Info, error) {
	mounts, err := mountTable()
	if err != nil {
		return nil, err
	}
	// The last of several is on top.
	var top *mountinfo.Info
	for _, m := range mounts {
		if m.Mountpoint == target {
			top = m
		}
	}
	return top, nil
}

// Unmount ends a root. It is an error (EBUSY) while something in our mount
// namespace has it in use, an error too when another mount is at its place,
// and none when it isn't mounted any more. The kernel writes out what is
// dirty first, which may take a while.
func Unmount(ctx context.Context, r Root) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := mountAt(r.Target)
	if err != nil {
		return fmt.Errorf("unmounting root of %s: %w", r.Serial, err)
	}
	if m == nil {
		return nil
	}
	if found, ok := rootFrom(m); !ok || found.Serial != r.Serial || found.UpperID != r.UpperID || found.MountID != r.MountID {
		return fmt.Errorf("unmounting root of %s: %q has another mount (%s, id %d, wanted id %d)", r.Serial, r.Target, m.Source, m.ID, r.MountID)
	}
	err = unix.Unmount(r.Target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmounting root of %s: something still has it open, see \"fuser -vm %s\": %w", r.Serial, r.Target, err)
	}
	if err != nil {
		return fmt.Errorf("unmounting root of %s from %q: %w", r.Serial, r.Target, err)
	}
	return nil
}

// superOption finds an option of the mount's file system.
func superOption(m *mountinfo.Info, key string) (value string, ok bool) {
	for o := range strings.SplitSeq(m.VFSOptions, ",") {
		if k, v, _ := strings.Cut(o, "="); k == key {
			return v, true
		}
	}
	return "", false
}

// upperOption is where an overlay says its upper is, octal escapes undone.
func upperOption(m *mountinfo.Info) string {
	v, _ := superOption(m, "upperdir")
	return unescapeOctal(v)
}

// unescapeOctal undoes the \ooo of seq_file; the library leaves options alone.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }

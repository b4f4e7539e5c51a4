package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rubus/config/device"
)

// Probe says whether dir, where uppers are to be, and this kernel carry roots
// for boards: device nodes, trusted attributes, an overlay with handles that
// survive copy-up, and inode numbers that stay. It works in a directory of its
// own below dir and leaves nothing behind, mounts included.
func Probe(ctx context.Context, dir string) (err error) {
	tmp, err := os.MkdirTemp(dir, newPrefix+"probe-")
	if err != nil {
		return fmt.Errorf("probing %q: %w", dir, err)
	}
	defer func() {
		// The caller's patience must not decide whether we clean up.
		clean := Uppers{Dir: dir}.removeDir(context.WithoutCancel(ctx), filepath.Base(tmp))
		err = errors.Join(err, clean)
	}()
	if err := probe(ctx, tmp); err != nil {
		return fmt.Errorf("probing %q: %w", dir, err)
	}
	return nil
}

func probe(ctx context.Context, tmp string) error {
	if err := probeUpper(tmp); err != nil {
		return err
	}
	serial, err := device.SerialFromUint32(1)
	if err != nil {
		return err
	}
	layer := filepath.Join(tmp, "layer")
	if err := errors.Join(os.Mkdir(layer, 0o755), os.WriteFile(filepath.Join(layer, "file"), []byte("lower"), 0o600)); err != nil {
		return err
	}
	base, err := BaseOf([]string{"probe"}, []string{layer})
	if err != nil {
		return err
	}
	uppers := UppersOf(tmp, serial)
	id, err := uppers.Create(base, 1, layer)
	if err != nil {
		return err
	}
	root, err := Mount(ctx, Spec{
		Serial: serial, Base: base, LayerDirs: []string{layer},
		UpperDir: uppers.Path(id), UpperID: id, Target: filepath.Join(tmp, "roots", "probe"),
	})
	if err != nil {
		return err
	}
	return errors.Join(probeMerged(root.Target), Unmount(context.WithoutCancel(ctx), root))
}

// probeUpper tries what overlayfs asks of an upper's file system.
func probeUpper(tmp string) error {
	whiteout := filepath.Join(tmp, "whiteout")
	if err := unix.Mknod(whiteout, unix.S_IFCHR|0o600, 0); err != nil {
		return fmt.Errorf("making a device node: %w: rubus needs root with CAP_MKNOD", err)
	}
	if err := os.Remove(whiteout); err != nil {
		return err
	}
	if err := unix.Setxattr(tmp, "trusted.overlay.rubus", []byte("y"), 0); err != nil {
		return fmt.Errorf("setting an attribute trusted.*: %w: keep rubus' state on ext4, xfs or btrfs, and run rubus as root", err)
	}
	return unix.Removexattr(tmp, "trusted.overlay.rubus")
}

// probeMerged looks whether handle and inode number of a file stay when the
// overlay copies it up.
func probeMerged(target string) error {
	file := filepath.Join(target, "file")
	before, inoBefore, err := identify(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte("upper"), 0o600); err != nil {
		return err
	}
	after, inoAfter, err := identify(file)
	switch {
	case err != nil:
		return err
	case before != after:
		return errors.New("the file handle of a file changes when it is first written")
	case inoBefore != inoAfter:
		return errors.New("the inode number of a file changes when it is first written: keep rubus' state on one file system")
	}
	return nil
}

func identify(path string) (handle string, ino uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", 0, err
	}
	handle, err = handleOf(f)
	return handle, st.Ino, err
}

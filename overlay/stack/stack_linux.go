package stack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// source is what a mount is called, where it can be seen at all.
const source = "rubus-layers"

// options: without an upper nothing is ever copied up, so a handle costs nothing; and
// then overlayfs follows no redirects where it is to give handles. Layers have none,
// but those that were made elsewhere.
func options() [][2]string {
	return [][2]string{{"nfs_export", "on"}, {"redirect_dir", "nofollow"}, {"metacopy", "off"}}
}

// Open mounts layers, the bottom one first, two or more, read-only and at no place: the
// file that it returns, their merged root, is the only way to them, and Close unmounts
// them. What has a file handle there has the same one in each overlay over these
// layers, and it can be opened in both. It blocks on disk.
//
// Never ask for a handle of the root itself: overlayfs makes the root's of an upper.
func Open(layers []string) (*os.File, error) {
	root, err := open(layers, []way{byFD, byName, byString})
	if err != nil {
		return nil, fmt.Errorf("mounting %d layers alone: %w", len(layers), err)
	}
	return root, nil
}

// errNoWay says that the kernel is too old for a way of mounting.
var errNoWay = errors.New("kernel is too old")

// way mounts layers that are open, the top one first.
type way func(layers []*os.File) (*os.File, error)

func open(layers []string, ways []way) (root *os.File, err error) {
	if len(layers) < 2 {
		return nil, errors.New("one layer needs no merging")
	}
	var dirs []*os.File
	defer func() {
		for _, d := range dirs {
			d.Close()
		}
	}()
	for _, l := range slices.Backward(layers) {
		d, err := os.OpenFile(l, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, d)
	}
	for _, way := range ways {
		if root, err = way(dirs); !errors.Is(err, errNoWay) {
			break
		}
	}
	if err == nil {
		if err = verify(root); err != nil {
			root.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return root, nil
}

func fdPath(f *os.File) string { return "/proc/thread-self/fd/" + strconv.Itoa(int(f.Fd())) }

// byFD needs kernel 6.13.
func byFD(layers []*os.File) (*os.File, error) {
	return detached(layers, func(fs int, key string, dir *os.File) error {
		return unix.FsconfigSetFd(fs, key, int(dir.Fd()))
	})
}

// byName needs kernel 6.7.
func byName(layers []*os.File) (*os.File, error) {
	return detached(layers, func(fs int, key string, dir *os.File) error {
		return unix.FsconfigSetString(fs, key, fdPath(dir))
	})
}

func detached(layers []*os.File, set func(fs int, key string, dir *os.File) error) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return nil, errNoWay
	}
	if err != nil {
		return nil, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, dir := range layers {
		err := set(fs, "lowerdir+", dir)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, errNoWay
		}
		if err != nil {
			return nil, fmt.Errorf("adding a layer: %w", err)
		}
	}
	for _, o := range append(options(), [2]string{"source", source}) {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return nil, fmt.Errorf("setting %s=%s: %w", o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); errors.Is(err, unix.EINVAL) {
		return nil, errors.Join(errNoWay, err) // before 6.5 unknown options are refused here
	} else if err != nil {
		return nil, fmt.Errorf("creating the overlay: %w", err)
	}
	const attrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOATIME
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, fmt.Errorf("mounting the overlay: %w", err)
	}
	defer unix.Close(mount)
	return rootOf(mount, ".")
}

// rootOf opens a real descriptor: handles are not opened below an O_PATH one.
func rootOf(at int, path string) (*os.File, error) {
	fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the merged root: %w", err)
	}
	return os.NewFile(uintptr(fd), source), nil
}

// byString mounts by mount(2), which needs a place: one that is given up at once. A
// process that is killed between the two leaves an empty-handed mount below the
// directory for temporary files.
func byString(layers []*os.File) (root *os.File, err error) {
	names := make([]string, len(layers))
	for i, l := range layers {
		names[i] = fdPath(l)
	}
	data := "lowerdir=" + strings.Join(names, ":")
	for _, o := range options() {
		data += "," + o[0] + "=" + o[1]
	}
	if len(data) >= os.Getpagesize() {
		return nil, fmt.Errorf("%d layers need %d bytes of mount options, this kernel takes %d", len(layers), len(data), os.Getpagesize()-1)
	}
	dir, err := os.MkdirTemp("", source+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME
	if err := unix.Mount(source, dir, "overlay", flags, data); err != nil {
		return nil, fmt.Errorf("mounting the overlay: %w (see dmesg)", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)) }()
	return rootOf(unix.AT_FDCWD, dir)
}

// verify takes the handle of the first name in the root and opens it: the kernel drops
// nfs_export without an error when the layers do not allow it.
func verify(root *os.File) error {
	names, err := root.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	h, _, err := unix.NameToHandleAt(int(root.Fd()), names[0], 0)
	if err != nil {
		return fmt.Errorf("nfs_export doesn't work: taking the file handle of %q: %w", names[0], err)
	}
	fd, err := unix.OpenByHandleAt(int(root.Fd()), h, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("nfs_export doesn't work: opening %q by its file handle: %w", names[0], err)
	}
	return unix.Close(fd)
}

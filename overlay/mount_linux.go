package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount mounts the overlay of a spec, or finds that it is mounted already
// and adopts it: then the mount id is the one it had. It is an error when
// something else is mounted at the target, when the layers are not those the
// upper was written over (ErrOtherBase), and when the kernel doesn't do what
// was asked; nothing stays mounted then. Only one call may run per serial.
func Mount(ctx context.Context, s Spec) (Root, error) {
	root, err := mountRoot(ctx, s, mountWays())
	if err != nil {
		return Root{}, fmt.Errorf("mounting root of %s: %w", s.Serial, err)
	}
	return root, nil
}

func mountRoot(ctx context.Context, s Spec, ways []mountWay) (Root, error) {
	if err := ctx.Err(); err != nil {
		return Root{}, err
	}
	plan, err := Plan(s)
	if err != nil {
		return Root{}, err
	}
	if root, err := adopt(plan); err != nil || root.MountID != 0 {
		return root, err
	}
	now, err := BaseOf(s.Base.Digests, s.LayerDirs)
	if err != nil {
		return Root{}, err
	}
	if err := s.Base.Matches(now); err != nil {
		return Root{}, err
	}
	if s.XIno, err = needsXIno(plan); err != nil {
		return Root{}, err
	}
	if plan, err = Plan(s); err != nil {
		return Root{}, err
	}
	if err := makeTarget(plan.Target); err != nil {
		return Root{}, err
	}
	if err := keepIndexed(plan.Work); err != nil {
		return Root{}, err
	}
	if err = attach(plan, ways); errors.Is(err, unix.EIO) {
		if err = dropTemporary(plan.Work); err == nil {
			err = attach(plan, ways)
		}
	}
	if err != nil {
		return Root{}, err
	}
	root, err := checked(plan)
	if err != nil {
		err = fmt.Errorf("checking the new mount: %w", err)
		return Root{}, errors.Join(err, unix.Unmount(plan.Target, unix.UMOUNT_NOFOLLOW))
	}
	return root, nil
}

// adopt looks for the planned mount. A zero Root says that there is none yet.
func adopt(plan MountPlan) (Root, error) {
	m, err := mountAt(plan.Target)
	if err != nil || m == nil {
		return Root{}, err
	}
	root, ok := rootFrom(m)
	if !ok || m.Source != plan.Source {
		return Root{}, fmt.Errorf("%q has another mount, %s %q, where %q belongs: %w", plan.Target, m.FSType, m.Source, plan.Source, unix.EBUSY)
	}
	return root, nil
}

// checked reads back what was mounted.
func checked(plan MountPlan) (Root, error) {
	m, err := mountJustMade(plan.Target, plan.Source)
	if err != nil {
		return Root{}, err
	}
	if m == nil {
		return Root{}, fmt.Errorf("nothing is mounted on %q", plan.Target)
	}
	root, ok := rootFrom(m)
	if !ok || m.Source != plan.Source {
		return Root{}, fmt.Errorf("%q has another mount, %s %q", plan.Target, m.FSType, m.Source)
	}
	if err := verifyWritable(plan); err != nil {
		return Root{}, err
	}
	if err := verifyOptions(m, plan.Options); err != nil {
		return Root{}, err
	}
	if err := verifyHandles(plan.Target); err != nil {
		return Root{}, fmt.Errorf("nfs_export doesn't work: %w", err)
	}
	return root, nil
}

// needsXIno says whether layers and upper lie on several file systems.
func needsXIno(plan MountPlan) (bool, error) {
	var upper, st unix.Stat_t
	if err := unix.Stat(plan.Upper, &upper); err != nil {
		return false, fmt.Errorf("looking at upper %q: %w", plan.Upper, err)
	}
	for _, dir := range plan.Lower {
		if err := unix.Stat(dir, &st); err != nil {
			return false, fmt.Errorf("looking at layer %q: %w", dir, err)
		}
		if st.Dev != upper.Dev {
			return true, nil
		}
	}
	return false, nil
}

// makeTarget makes the mount point below a directory only root may enter: the
// board's root user can make setuid files in it.
func makeTarget(target string) error {
	parent := filepath.Dir(target)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("making mount point: %w", err)
	}
	info, err := os.Stat(parent)
	if err != nil {
		return fmt.Errorf("making mount point: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("directory %q of the mount points is open to others (mode %04o): chmod 700 it", parent, info.Mode().Perm())
	}
	err = os.Mkdir(target, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = keepTarget(parent)
	}
	if err != nil {
		return fmt.Errorf("making mount point: %w", err)
	}
	return nil
}

// keepTarget brings a new mount point's name to the disk, and that of the directory that
// it is in. Where the host's NFS server exports it, it looks for it after a power cut
// before rubus is there. ext4 and xfs bring it along with what is synced later, as the
// board's record is; btrfs does not.
func keepTarget(parent string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(parent, &st); err != nil {
		return err
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return nil
	}
	return errors.Join(syncDir(parent), syncDir(filepath.Dir(parent)))
}

// layerFDs holds the directories of a mount open. Naming them by fd keeps any
// character of their paths out of the options, and the options short.
type layerFDs struct {
	lower       []*os.File
	upper, work *os.File
}

func openLayers(plan MountPlan) (l layerFDs, err error) {
	open := func(dir string) *os.File {
		f, openErr := os.OpenFile(dir, unix.O_PATH|oDirectory, 0)
		err = errors.Join(err, openErr)
		return f
	}
	for _, dir := range plan.Lower {
		l.lower = append(l.lower, open(dir))
	}
	l.upper, l.work = open(plan.Upper), open(plan.Work)
	if err != nil {
		l.close()
		return layerFDs{}, fmt.Errorf("opening layers: %w", err)
	}
	return l, nil
}

func (l layerFDs) close() {
	for _, f := range append(l.lower, l.upper, l.work) {
		f.Close() // nil is fine
	}
}

func fdPath(f *os.File) string {
	return "/proc/thread-self/fd/" + strconv.Itoa(int(f.Fd()))
}

// errNoWay says that the kernel is too old for a way of mounting.
var errNoWay = errors.New("kernel is too old")

// mountWay mounts a plan whose layers are open.
type mountWay func(MountPlan, layerFDs) error

// mountWays lists the ways to mount, the best one first: directories by fd
// (kernel 6.13), one by one by name (6.7), all in one string (any).
func mountWays() []mountWay {
	return []mountWay{mountByFD, mountByName, mountByString}
}

func attach(plan MountPlan, ways []mountWay) error {
	layers, err := openLayers(plan)
	if err != nil {
		return err
	}
	defer layers.close()
	for _, way := range ways {
		if err = way(plan, layers); !errors.Is(err, errNoWay) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: the upper or its work directory is mounted elsewhere", err)
	case errors.Is(err, unix.ESTALE):
		return fmt.Errorf("%w: the upper was written over other directories than these layers", err)
	}
	return err
}

func mountByFD(plan MountPlan, l layerFDs) error {
	return mountNew(plan, l, func(fs int, key string, dir *os.File) error {
		return unix.FsconfigSetFd(fs, key, int(dir.Fd()))
	})
}

func mountByName(plan MountPlan, l layerFDs) error {
	err := mountNew(plan, l, func(fs int, key string, dir *os.File) error {
		return unix.FsconfigSetString(fs, key, fdPath(dir))
	})
	if errors.Is(err, unix.EINVAL) {
		// Before 6.5 any option is taken, and refused only when all are there.
		return errors.Join(errNoWay, err)
	}
	return err
}

// mountNew mounts by fsopen(2) and its kin.
func mountNew(plan MountPlan, l layerFDs, set func(fs int, key string, dir *os.File) error) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return errNoWay
	}
	if err != nil {
		return fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fs)
	for i, dir := range l.lower {
		err := set(fs, "lowerdir+", dir)
		if i == 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) {
			return errNoWay // not supported is what 6.1 says to an fd
		}
		if err != nil {
			return fsError(fs, "adding layer "+plan.Lower[i], err)
		}
	}
	if err := set(fs, "upperdir", l.upper); err != nil {
		return fsError(fs, "setting upper "+plan.Upper, err)
	}
	if err := set(fs, "workdir", l.work); err != nil {
		return fsError(fs, "setting work directory "+plan.Work, err)
	}
	options := append([]Option{{"source", plan.Source}}, plan.Options...)
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o.Key, o.Value); err != nil {
			return fsError(fs, "setting "+o.Key+"="+o.Value, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fsError(fs, "creating the overlay", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return fsError(fs, "mounting the overlay", err)
	}
	defer unix.Close(mount)
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, plan.Target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("moving the mount to %q: %w", plan.Target, err)
	}
	return nil
}

// fsError adds what the kernel has to say: messages read from the context,
// each as "e overlay: text".
func fsError(fs int, doing string, err error) error {
	var says []string
	buf := make([]byte, 4096)
	for len(says) < 10 {
		n, readErr := unix.Read(fs, buf)
		if readErr != nil || n <= 0 {
			break
		}
		_, text, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
		says = append(says, text)
	}
	if len(says) == 0 {
		return fmt.Errorf("%s: %w (see dmesg)", doing, err)
	}
	return fmt.Errorf("%s: %w (%s)", doing, err, strings.Join(says, "; "))
}

// mountByString mounts by mount(2), all options in one page.
func mountByString(plan MountPlan, l layerFDs) error {
	data := mountData(plan, l)
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers need %d bytes of mount options, this kernel takes %d: update it to 6.13 or join layers",
			len(plan.Lower), len(data), os.Getpagesize()-1)
	}
	if err := unix.Mount(plan.Source, plan.Target, "overlay", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return fmt.Errorf("mounting the overlay: %w (see dmesg)", err)
	}
	return nil
}

func mountData(plan MountPlan, l layerFDs) string {
	var lower []string
	for _, dir := range l.lower {
		lower = append(lower, fdPath(dir))
	}
	data := []string{
		"lowerdir=" + strings.Join(lower, ":"),
		"upperdir=" + fdPath(l.upper), "workdir=" + fdPath(l.work),
	}
	for _, o := range plan.Options {
		data = append(data, o.Key+"="+o.Value)
	}
	return strings.Join(data, ",")
}

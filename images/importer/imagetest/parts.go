package imagetest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Small is like trixie, with less room.
func Small() Family {
	f := Families()["trixie"]
	f.BootMB = 40
	return f
}

// Whole is a time that FAT can keep, too: that of all Parts.
func Whole() time.Time { return time.Date(2026, 6, 18, 12, 34, 56, 0, time.UTC) }

func write(t testing.TB, path string, content []byte, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, content, mode))
	must(t, os.Chmod(path, mode))
}

// Parts makes what the root and the boot partition of a release hold.
func Parts(t testing.TB, f Family) (root, boot string) {
	t.Helper()
	root, boot = t.TempDir(), t.TempDir()
	must(t, os.Chmod(root, 0o755))
	write(t, root+"/etc/fstab", []byte(f.Fstab), 0o644)
	write(t, root+"/etc/shadow", []byte("root:*:1::::::\n"), 0o640)
	must(t, os.Chown(root+"/etc/shadow", 0, 42))
	write(t, root+"/usr/bin/sudo", bytes.Repeat([]byte("sudo"), 1<<18), 0o755|os.ModeSetuid)
	must(t, os.Link(root+"/usr/bin/sudo", root+"/usr/bin/sudoedit"))
	write(t, root+"/usr/bin/ping", []byte("ping"), 0o755)
	must(t, unix.Setxattr(root+"/usr/bin/ping", "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(t, os.Symlink("usr/bin", root+"/bin"))
	must(t, os.MkdirAll(root+"/"+f.Mount, 0o755))
	must(t, os.MkdirAll(root+"/dev", 0o755))
	must(t, unix.Mknod(root+"/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.MkdirAll(root+"/tmp", 0o755))
	must(t, os.Chmod(root+"/tmp", 0o777|os.ModeSticky))
	for name, size := range map[string]int{
		"bootcode.bin": 52480, "start4.elf": 2 << 20, "fixup4.dat": 5400, "config.txt": 20, "cmdline.txt": 90, "kernel8.img": 3<<20 + 77,
		"kernel_2712.img": 1 << 20, "initramfs8": 100000, "bcm2711-rpi-4-b.dtb": 55000, "overlays/overlay_map.dtb": 5000, "overlays/README": 3,
	} {
		write(t, filepath.Join(boot, name), bytes.Repeat([]byte{byte(size), 'x', 1}, size/3+1), 0o755)
	}
	for _, dir := range []string{root, boot} {
		must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
			ts := []unix.Timespec{unix.NsecToTimespec(Whole().UnixNano()), unix.NsecToTimespec(Whole().UnixNano())}
			return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW))
		}))
	}
	return root, boot
}

package boot_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/images/imageref"
	"rubus/nfsexport"
)

// onDisk is a state directory on a disk with a file system of its own; program runs one.
func onDisk(t *testing.T, fsType string) (disk, state string, program func(name string, args ...string)) {
	t.Helper()
	disk, state = filepath.Join(t.TempDir(), "disk"), t.TempDir()
	program = func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	program("truncate", "-s", "400M", disk) // an xfs has 300 MB at least
	program("mkfs."+fsType, "-q", disk)
	program("mount", "-o", "loop", disk, state)
	t.Cleanup(func() { _ = exec.Command("umount", state).Run() })
	return disk, state, program
}

// The state directory's file system may be an xfs or a btrfs, too: a board's root
// is the same, with its writes and the handles of its layers, when the daemon
// starts again and when the disk was away in between; a reset gives the image back.
func TestFileSystems(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			disk, state, program := onDisk(t, fsType)
			l := newLabIn(t, state)
			a, b := l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)
			for _, x := range []nfsexport.Export{a, b} {
				l.write(x, "mine")
				l.write(x, "etc/golden")
			}
			l.importImage("two") // the tag moves meanwhile
			same := func(after string) {
				t.Helper()
				l.restart()
				for _, old := range []nfsexport.Export{a, b} {
					x, ok := l.exp.get(old.ID)
					if !ok || x.State != nfsexport.Ready || !has(x, "mine") || l.golden(x) != "mine" {
						t.Fatalf("after %s the root of %s is %+v", after, old.Name, x)
					}
				}
			}
			reboot := func() {
				l.unmount(a)
				l.unmount(b)
				program("umount", state)
				program("mount", "-o", "loop", disk, state)
			}
			same("a restart")
			reboot()
			same("a reboot of the server")
			fill := filepath.Join(state, "fill") // another program leaves not a block
			fillUp(t, fill)
			same("a restart on a full disk")
			reboot()
			same("a reboot on a full disk")
			// Boards that boot have the root they had, or the image, and no room to write.
			for i, x := range []nfsexport.Export{l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)} {
				if has(x, "mine") != (i == 0) || l.golden(x) != []string{"mine", "two"}[i] {
					t.Errorf("the root of %s, booted on a full disk, has %q", x.Name, l.golden(x))
				}
				if err := os.WriteFile(filepath.Join(x.Dir, "more"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
					t.Errorf("a write on a full disk: %v", err)
				}
			}
			if err := os.Remove(fill); err != nil {
				t.Fatal(err)
			}
			same("a restart when there is room again")

			v, err := l.store.Resolve(imageref.Ref{Name: "lab", Version: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.store.Verify(t.Context(), v.Layers[0].Digest, nil); err != nil {
				t.Error(err)
			}
			if err := l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if x := l.boots(serialA, macA, addrA); has(x, "mine") || l.golden(x) != "two" {
				t.Error("after a reset the board's writes are there")
			}
		})
	}
}

// TestMovingBetweenFileSystems: a board goes from one file system to another, with its
// snapshot, which shares its blocks with the root where the file system can.
func TestMovingBetweenFileSystems(t *testing.T) {
	const size = 24 << 20
	for from, to := range map[string]string{"ext4": "xfs", "xfs": "btrfs", "btrfs": "ext4"} {
		t.Run(from+" to "+to, func(t *testing.T) {
			_, state, _ := onDisk(t, from)
			l := newLabIn(t, state)
			x := l.boots(serialA, macA, addrA)
			big := strings.Repeat("rubus board ", size/12)
			l.put(x, "big", big)
			l.put(x, "etc/golden", "mine")
			must(t, os.Link(filepath.Join(x.Dir, "etc/golden"), filepath.Join(x.Dir, "also")))
			must(t, os.Remove(filepath.Join(x.Dir, "boot/firmware/bootcode.bin")))
			before := used(t, state)
			_, err := l.fleet.Snapshot(t.Context(), serialA, "kept", nil)
			must(t, err)
			if took := used(t, state) - before; (took < size/4) != (from != "ext4") {
				t.Errorf("a snapshot with %d bytes in one file took %d on %s", size, took, from)
			}
			full, _ := l.backup(nil, nil)
			must(t, os.Remove(filepath.Join(x.Dir, "big")))
			more, _ := l.backup(full, nil)

			_, state, _ = onDisk(t, to)
			n := newLabIn(t, state)
			_, err = n.restoreBackup(full, more)
			must(t, err)
			y := n.boots(serialA, macA, addrA)
			if has(y, "big") || n.read(y, "also") != "mine" || n.golden(y) != "mine" || has(y, "boot/firmware/bootcode.bin") {
				t.Errorf("on %s it has %q and %q", to, n.read(y, "also"), n.golden(y))
			}
			must(t, n.fleet.Stop(t.Context(), serialA))
			must(t, n.fleet.Restore(t.Context(), serialA, 1, nil))
			if y = n.boots(serialA, macA, addrA); n.read(y, "big") != big {
				t.Errorf("the snapshot's file differs on %s", to)
			}
		})
	}
}

// used is what is taken of the file system that a directory lies on, in bytes.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Syncfs(fd))
	var st unix.Statfs_t
	must(t, unix.Fstatfs(fd, &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// fillUp makes a file of all the space there is.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, n := int64(0), int64(256<<20); n >= 4096; {
		if unix.Fallocate(int(f.Fd()), 0, at, n) == nil {
			at += n
		} else {
			n /= 2
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

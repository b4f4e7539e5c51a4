package overlay

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// After a reboot of the server, on a disk without room for the directory that overlayfs
// makes at each mount, it mounts read-only and without handles: that is told as what it
// is, nothing stays mounted, and it works when there is room again.
func TestMountOnAFullDisk(t *testing.T) {
	needNamespace(t)
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	disk, at := filepath.Join(dir, "disk"), filepath.Join(dir, "at")
	run("truncate", "-s", "320M", disk)
	run("mkfs.xfs", "-q", disk)
	run("mkdir", at)
	run("mount", "-o", "loop", disk, at)
	t.Cleanup(func() { _ = exec.Command("umount", "-R", at).Run() })
	spec := newStore(t, at, []string{"file"}).spec("b8123456")
	mount := func() error {
		_, err := Mount(context.Background(), spec)
		return err
	}
	must(t, mount())
	must(t, unix.Unmount(spec.Target, 0))
	fill, err := os.Create(at + "/fill")
	must(t, err)
	for at, n := int64(0), int64(256<<20); n >= 4096; {
		if unix.Fallocate(int(fill.Fd()), 0, at, n) == nil {
			at += n
		} else {
			n /= 2
		}
	}
	must(t, errors.Join(fill.Sync(), fill.Close()))
	if err := mount(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("mounting without room: %v", err)
	}
	if m, err := mountAt(spec.Target); m != nil || err != nil {
		t.Errorf("%+v is mounted, %v", m, err)
	}
	must(t, os.Remove(at+"/fill"))
	must(t, mount())
	if got := readAll(t, spec.Target+"/file"); got != "golden file" {
		t.Errorf("file: %q", got)
	}
	must(t, unix.Unmount(spec.Target, 0))
}

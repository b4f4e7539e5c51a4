package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The power goes when a mount point is made, and something else is on the disk: the mount
// point is, too.
func TestMountPointOutlivesPowerCut(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			dir := t.TempDir()
			run := func(name string, args ...string) {
				t.Helper()
				if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
					t.Fatalf("%s %q: %v\n%s", name, args, err, out)
				}
			}
			disk, cut, at := filepath.Join(dir, "disk"), filepath.Join(dir, "cut"), filepath.Join(dir, "at")
			run("truncate", "-s", "320M", disk)
			run("mkfs."+fs, "-q", disk)
			run("mkdir", at)
			run("mount", "-o", "loop", disk, at)
			t.Cleanup(func() { _ = exec.Command("umount", at).Run() })
			target := filepath.Join(at, "roots/b8123456/1")
			run("mkdir", "-m", "700", at+"/devices", at+"/roots")
			run("sync", "-f", at)
			if err := makeTarget(target); err != nil {
				t.Fatal(err)
			}
			run("touch", at+"/devices/device.json")
			run("sync", at+"/devices/device.json", at+"/devices") // as a record is stored
			run("cp", "--sparse=always", disk, cut)
			run("umount", at)
			run("mount", "-o", "loop", cut, at)
			if _, err := os.Stat(target); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(at + "/devices/device.json"); err != nil {
				t.Errorf("this shows nothing: %v", err)
			}
		})
	}
}

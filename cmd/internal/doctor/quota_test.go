package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot/quota"
)

// btrfs has no project quotas: there rubus' own server counts, or nobody does, and then
// to do nothing is not what is advised.
func TestQuotasOnBtrfs(t *testing.T) {
	dir := t.TempDir()
	disk, at := filepath.Join(dir, "disk"), filepath.Join(dir, "at")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"truncate -s 128M " + disk, "mkfs.btrfs -q " + disk, "mount -o loop " + disk + " " + at} {
		if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("umount", at).Run() })
	if way, err := quota.WayOf(at); way != quota.Server || err != nil {
		t.Errorf("who keeps quotas: %q, %v", way, err)
	}
	if f := Quotas(at, 2, false, true); f.Level != Note || !strings.HasPrefix(f.Do, "nothing, or put") {
		t.Errorf("rubus' own server: %+v", f)
	}
	if f := Quotas(at, 2, false, false); f.Level != Warning || !strings.HasPrefix(f.Do, "put the state directory on ext4 or xfs") || !strings.Contains(f.Do, "nfs.backend") {
		t.Errorf("the kernel's server: %+v", f)
	}
}

package boot_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"rubus/images/imageref"
	"rubus/nfsexport"
)

// The state directory's file system may be an xfs or a btrfs, too: a board's root
// is the same, with its writes and the handles of its layers, when the daemon
// starts again and when the disk was away in between; a reset gives the image back.
func TestFileSystems(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			disk := filepath.Join(t.TempDir(), "disk")
			state := t.TempDir()
			program := func(name string, args ...string) {
				t.Helper()
				if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", name, err, out)
				}
			}
			program("truncate", "-s", "400M", disk) // an xfs has 300 MB at least
			program("mkfs."+fsType, "-q", disk)
			program("mount", "-o", "loop", disk, state)
			t.Cleanup(func() { _ = exec.Command("umount", state).Run() })

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
			same("a restart")
			l.unmount(a)
			l.unmount(b)
			program("umount", state)
			program("mount", "-o", "loop", disk, state)
			same("a reboot of the server")

			v, err := l.store.Resolve(imageref.Ref{Name: "lab", Version: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.store.Verify(t.Context(), v.Layers[0].Digest, nil); err != nil {
				t.Error(err)
			}
			if err := l.fleet.Reset(t.Context(), serialA, true); err != nil {
				t.Fatal(err)
			}
			if x := l.boots(serialA, macA, addrA); has(x, "mine") || l.golden(x) != "two" {
				t.Error("after a reset the board's writes are there")
			}
		})
	}
}

package flow

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// installed puts into a copy of the golden root what a system has that was set up on a
// card.
const installed = `cp -a --reflink=auto "$1" "$2"
cd "$2/etc"
printf 'proc /proc proc defaults 0 0\nPARTUUID=5e3da3da-01 /boot/firmware vfat defaults 0 2\nPARTUUID=5e3da3da-02 / ext4 defaults 0 1\n' >fstab
printf 'allow-hotplug eth0\niface eth0 inet dhcp\n' >network/interfaces.d/eth0
echo 0123456789abcdef0123456789abcdef >machine-id
ln -sf /nowhere resolv.conf`

// card makes of a root a card's image as Raspberry Pi OS trixie has it: where its
// partitions lie, labels, clusters of 512 bytes, features of ext4, and packs it.
const card = `root=$1 img=$2
mkdir "$root.boot"
mv "$root"/boot/firmware/* "$root.boot"
truncate -s 1960M "$img"
printf 'label: dos\nlabel-id: 0x5e3da3da\nstart=16384,size=524288,type=c\nstart=540672,type=83\n' | sfdisk -q "$img"
mkfs.vfat -F 32 -s 1 -n bootfs --offset 16384 "$img" 262144 >/dev/null
mcopy -s -m -i "$img@@8388608" "$root.boot"/* ::
mkfs.ext4 -q -F -L rootfs -O ^huge_file,metadata_csum,metadata_csum_seed,orphan_file,64bit -d "$root" -E offset=276824064 "$img" 1696M
zstd -q -1 --rm "$img"
rm -rf "$root" "$root.boot"`

// A card's image, of Debian's packages, boots with the rules on top, and works: the unit reports the
// boot, its interface is adopted, /boot/firmware is a mount point, nothing failed.
func TestEmulatedPiByRules(t *testing.T) {
	t.Parallel()
	over := waitTurn(t)
	s := newSite(t)
	state := filepath.Join(s.dir, "card")
	root := filepath.Join(s.dir, "root")
	if out, err := exec.Command("sh", "-ec", installed, "installed", shared.Golden, root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	img := filepath.Join(s.dir, "card.img")
	if out, err := exec.Command("sh", "-ec", card, "card", root, img).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.must("image", "import", "lab", img+".zst", "--no-rules", "--state", state)
	s.must("image", "lint", "lab", "--apply", "--tag", "--state", state)
	_, out := s.simulate(over, []string{
		isRunning, itsReport,
		`findmnt -no TARGET /boot/firmware`,
		`networkctl --no-pager --no-legend list eth0 | awk '{ print $4, $5 }'`,
		`readlink -f /etc/resolv.conf; test -f /etc/resolv.conf && echo there`,
		`sysctl -n net.ipv4.ping_group_range | tr '\t' ' '`,
		`systemctl is-enabled networking.service fstrim.timer | tr '\n' ' '`,
		`grep -c 0123456789abcdef /etc/machine-id; wc -c </etc/machine-id`,
		`ls /var/log/journal /run/log/journal 2>/dev/null | head -n 1`,
	}, "--standalone", "--state", state, "--image", "lab", "--timeout", "15m")
	want := []string{"running", "rubus.boot", "/boot/firmware", "routable configured", "/run/rubus/resolv.conf\nthere", "0 2147483647", "masked masked", "0\n33", "/run/log/journal:"}
	for i, w := range want {
		if strings.TrimSpace(out[i]) != w {
			t.Errorf("command %d prints %q, not %q", i, out[i], w)
		}
	}
	if _, err := os.Stat(filepath.Join(state, "roots")); err == nil {
		t.Error("the simulation left roots behind")
	}
}

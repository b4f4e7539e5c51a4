package flow

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
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

// A card's image, of Debian's packages, boots with the rules on top by one command that leaves nothing
// behind, and works: the unit reports the boot, its interface is adopted, /boot/firmware is a mount
// point, nothing failed. It runs the kernel that firmware fetched from its own root.
func TestEmulatedPi(t *testing.T) {
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
	const serial = "c0ffee01"
	asks := []struct{ command, want string }{
		{isRunning, "running"},
		{itsReport, "rubus.boot"},
		{itsSerial, "00000000" + serial},
		{`{ ` + itsRoot + `; } | tr -s " "`, "nfs 10.77.0.1:/" + serial + "/1"},
		{`touch /root/mine && sync && ls -l /root/mine | cut -c 1-10`, "-rw-r--r--"},
		{`tr -d '\0' </proc/device-tree/model`, "Raspberry Pi 3 Model B"},
		{`findmnt -no TARGET /boot/firmware`, "/boot/firmware"},
		{`networkctl --no-pager --no-legend list eth0 | awk '{ print $4, $5 }'`, "routable configured"},
		{`readlink -f /etc/resolv.conf; test -f /etc/resolv.conf && echo there`, "/run/rubus/resolv.conf\nthere"},
		{`sysctl -n net.ipv4.ping_group_range | tr '\t' ' '`, "0 2147483647"},
		{`systemctl is-enabled networking.service fstrim.timer | tr '\n' ' '`, "masked masked"},
		{`grep -c 0123456789abcdef /etc/machine-id; wc -c </etc/machine-id`, "0\n33"},
		{`ls /var/log/journal /run/log/journal 2>/dev/null | head -n 1`, "/run/log/journal:"},
	}
	commands := []string{`uname -r`, itsCalls, `cut -d ' ' -f 1 /proc/uptime`}
	for _, a := range asks {
		commands = append(commands, a.command)
	}
	r, out := s.simulate(over, commands, "--standalone", "--state", state, "--image", "lab", "--timeout", "15m")
	release, counted, uptime, out := out[0], out[1], out[2], out[3:]
	for i, a := range asks {
		if out[i] != a.want {
			t.Errorf("%s\nprints %q, not %q", a.command, out[i], a.want)
		}
	}
	if r.Serial != serial {
		t.Errorf("serial %q, not %q", r.Serial, serial)
	}
	asked, err := parseCalls(counted)
	must(t, err)
	t.Logf("after %s s of emulation: %v", uptime, asked)
	asked.spares(t)
	kernel := filepath.Base(r.Kernel.Name)
	if want := "vmlinuz-" + release; kernel != want {
		t.Errorf("firmware fetched %q, but %q runs", kernel, want)
	}
	if got, want := r.Kernel.SHA256, sha(t, packedKernel(t, state, kernel)); got != want {
		t.Errorf("the fetched %s has the digest %s; the image's has %s", kernel, got, want)
	}
	entries, err := os.ReadDir(state)
	must(t, err)
	for _, e := range entries {
		if e.Name() != "images" {
			t.Errorf("the simulation left %q behind", e.Name())
		}
	}
	if points, err := mountinfo.GetMounts(mountinfo.PrefixFilter(state)); err != nil || len(points) > 0 {
		t.Errorf("the simulation left mounts behind: %v %v", points, err)
	}
}

package rules_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cmpdiff "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer"
	"rubus/images/importer/imagetest"
	"rubus/images/rules"
)

// shape is a release: how its images are laid out, and what of Debian's packages is not in it.
type shape struct {
	root, image string
	bits        int
	without     []string
	// units are what systemctl says of units with the rules on top.
	units map[string]string
}

// What Debian's packages bring, so that a release without them is one without these.
func managers() (dhcpcd, nm, ifupdown, cloud, resolved []string) {
	return []string{"usr/sbin/dhcpcd", "etc/dhcpcd.conf", "usr/lib/systemd/system/dhcpcd.service", "usr/lib/dhcpcd"},
		[]string{"usr/sbin/NetworkManager", "etc/NetworkManager", "usr/lib/systemd/system/NetworkManager*", "usr/lib/NetworkManager"},
		[]string{"usr/sbin/if*", "usr/lib/systemd/system/networking.service", "usr/lib/systemd/system/ifup@.service", "etc/network", "etc/init.d/networking", "usr/lib/ifupdown"},
		[]string{"usr/bin/cloud-init*", "etc/cloud", "usr/lib/systemd/system/cloud-*", "etc/init.d/cloud-*", "usr/lib/cloud-init", "usr/lib/systemd/system-generators/cloud-*"},
		[]string{"usr/lib/systemd/system/systemd-resolved.service", "usr/lib/systemd/systemd-resolved"}
}

func shapes() map[string]shape {
	dhcpcd, nm, ifupdown, cloud, resolved := managers()
	all := map[string]string{
		"rubus-network.service": "enabled", "systemd-networkd.service": "enabled", "rubus-booted.service": "enabled",
		"rubus-ssh-host-keys.service": "enabled", "apt-daily.timer": "masked", "apt-daily-upgrade.timer": "masked", "fstrim.timer": "masked",
		"e2scrub_all.timer": "masked", "e2scrub_reap.service": "masked", "systemd-growfs-root.service": "masked", "man-db.timer": "masked",
	}
	with := func(more ...string) map[string]string {
		out := map[string]string{}
		for k, v := range all {
			out[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	return map[string]shape{
		"raspios bullseye":       {"raspios-bullseye", "bullseye", 64, slices.Concat(nm, cloud, resolved), with("networking.service", "masked", "resize2fs_once.service", "masked", "dphys-swapfile.service", "masked")},
		"raspios bullseye armhf": {"raspios-bullseye", "bullseye", 32, slices.Concat(nm, cloud, resolved), with("networking.service", "masked")},
		"raspios bookworm":       {"raspios-bookworm", "bookworm late", 64, slices.Concat(dhcpcd, cloud, resolved), with("networking.service", "masked", "rpi-eeprom-update.service", "masked")},
		"raspios trixie":         {"raspios-trixie", "trixie", 64, slices.Concat(dhcpcd, ifupdown, resolved), with("rpi-resize.service", "masked")},
		"debian bookworm":        {"debian-bookworm", "debian, GPT", 64, slices.Concat(dhcpcd, nm, cloud, resolved), with("networking.service", "masked")},
		"ubuntu noble":           {"ubuntu-noble", "ubuntu", 64, slices.Concat(dhcpcd, nm, ifupdown), with("systemd-resolved.service", "enabled")},
	}
}

// debianTree copies what Debian's packages unpack to, with a merged /usr, and without what
// is left out. Its programs are amd64's: those that tell what a root is for say another.
func debianTree(t *testing.T, tools string, s shape) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	script := `cd "$1"
mkdir -p "$2/usr"
for d in bin sbin lib; do
    mkdir "$2/usr/$d"
    ln -s "usr/$d" "$2/$d"
    cp -a usr/$d/. "$2/usr/$d"
    [ ! -d $d ] || cp -a $d/. "$2/usr/$d"
done
cp -a etc "$2/etc"
cd "$2"
rm -rf usr/lib/python3 usr/lib/*-linux-gnu etc/fstab etc/os-release usr/lib/os-release`
	out, err := exec.Command("sh", "-ec", script, "sh", tools, root).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, pattern := range s.without {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		must(t, err)
		for _, f := range found {
			must(t, os.RemoveAll(f))
		}
	}
	machine := map[int]uint16{64: 183, 32: 40}[s.bits]
	f, err := os.OpenFile(filepath.Join(root, "usr/lib/systemd/systemd"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(binary.LittleEndian.AppendUint16(nil, machine), 18)
	must(t, err)
	must(t, f.Close())
	return root
}

// add gives a tree the files of another that it has not got.
func (f tree) add(t *testing.T, root string) {
	t.Helper()
	from := f.write(t)
	if out, err := exec.Command("sh", "-ec", `cd "$1" && tar -c . | tar -C "$2" -x --skip-old-files --keep-directory-symlink`, "sh", from, root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestShapes imports a disk image of each family in its exact shape, of Debian's packages, with its
// rules: what the kernel shows then is what the rules promise, by systemd's own word, file by
// file in testdata/image-NAME; and nothing is left to do.
func TestShapes(t *testing.T) {
	scripts := cmp.Or(os.Getenv("RUBUS_SCRIPTS"), "../../scripts")
	out, err := exec.Command(filepath.Join(scripts, "peer-tools"), "systems").Output()
	must(t, err)
	tools := strings.TrimSpace(string(out))
	byName := map[string]root{}
	for _, r := range roots() {
		byName[r.name] = r
	}
	for name, s := range shapes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			family := imagetest.Families()[s.image]
			r := byName[s.root]
			dir := debianTree(t, tools, s)
			own := with(r.tree, tree{
				"etc/fstab": family.Fstab, family.Mount + "/kernel8.img": kernel(), family.Mount + "/kernel7l.img": "zImage",
				family.Mount + "/start4.elf": "firmware", family.Mount + "/config.txt": "arm_64bit=1\n", family.Mount + "/overlays/README": "",
			})
			for _, gone := range []string{"lib", "bin", "sbin", "usr/lib/systemd/systemd"} {
				delete(own, gone)
			}
			own.add(t, dir)
			for _, c := range r.capable {
				must(t, unix.Setxattr(filepath.Join(dir, c), "security.capability", netRaw(), 0))
			}
			boot := t.TempDir()
			must(t, exec.Command("sh", "-ec", `mv "$1"/* "$2"`, "sh", filepath.Join(dir, family.Mount), boot).Run())
			img := imagetest.Make(t, family, dir, boot)

			store, err := images.Open(filepath.Join(t.TempDir(), "images"))
			must(t, err)
			var done rules.Plan
			v, rep, err := importer.Import(t.Context(), store, "pios", img, importer.Options{Finish: func(_ context.Context, top *importer.Top) error {
				done = plan(t, top.Dirs...)
				return done.Apply(top)
			}})
			must(t, err)
			if got := done.Family + "-" + done.Release; got != s.root || v.Boot != family.Mount || rep.Format != "disk image" {
				t.Errorf("it is %s, %s, with its boot files in %s", got, rep.Format, v.Boot)
			}
			dirs := store.LayerDirs(v)
			if left := plan(t, dirs...); left.Changes() != 0 || len(left.Problems) > 0 {
				t.Errorf("lint finds\n%s", lines(left))
			}
			differsByThePlan(t, look(t, dirs[1:]...), look(t, dirs...), done)
			golden := filepath.Join("testdata", "image-"+strings.ReplaceAll(name, " ", "-"))
			if *update {
				must(t, os.WriteFile(golden, []byte(lines(done)), 0o644))
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if d := cmpdiff.Diff(string(want), lines(done)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			systemdAgrees(t, dirs, s.units)
		})
	}
}

// systemdAgrees mounts the layers as a board sees them and asks systemctl about units, and about
// each of those that are rubus' whether it has faults.
func systemdAgrees(t *testing.T, dirs []string, units map[string]string) {
	t.Helper()
	at := t.TempDir()
	must(t, unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(dirs, ":")))
	defer func() { must(t, unix.Unmount(at, 0)) }()
	for unit, want := range units {
		out, _ := exec.CommandContext(t.Context(), "systemctl", "--root="+at, "is-enabled", unit).CombinedOutput() // masked is an exit code, too
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("systemd says of %s: %q, want %q", unit, got, want)
		}
	}
	fstab, err := os.ReadFile(filepath.Join(at, "etc/fstab"))
	must(t, err)
	for l := range strings.Lines(string(fstab)) {
		if f := strings.Fields(l); len(f) > 0 && !strings.HasPrefix(f[0], "#") && (strings.Contains(f[0], "UUID=") || strings.Contains(f[0], "LABEL=")) {
			t.Errorf("fstab wants a disk: %s", l)
		} else if len(f) > 3 && f[3] == "bind" {
			if st, err := os.Stat(filepath.Join(at, f[1])); err != nil || !st.IsDir() {
				t.Errorf("fstab binds what is no directory: %s", l)
			}
		}
	}
}

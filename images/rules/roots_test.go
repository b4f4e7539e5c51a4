package rules_test

import (
	"encoding/binary"
	"strings"
)

// netRaw is cap_net_raw+ep, as setcap writes it.
func netRaw() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	b = binary.LittleEndian.AppendUint32(b, 1<<13)
	return append(b, make([]byte, 12)...)
}

const debian12 = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"

func osRelease(id, codename string) tree {
	return tree{"usr/lib/os-release": "ID=" + id + "\nVERSION_CODENAME=" + codename + "\n", "etc/os-release": "-> ../usr/lib/os-release"}
}

// systemd is a root with merged /usr and what all of Debian's kin have.
func systemd() tree {
	return tree{
		"lib": "-> usr/lib", "bin": "-> usr/bin", "sbin": "-> usr/sbin",
		"usr/lib/systemd/systemd": "", "usr/lib/systemd/systemd-networkd": "",
		"usr/lib/systemd/system/systemd-networkd.service":    "",
		"usr/lib/systemd/system/getty@.service":              "",
		"usr/lib/systemd/system/systemd-growfs-root.service": "",
		"usr/lib/systemd/system/systemd-firstboot.service":   "",
		"usr/lib/systemd/system/systemd-fsck-root.service":   "",
		"usr/lib/systemd/system/apt-daily.timer":             "",
		"usr/lib/systemd/system/apt-daily-upgrade.timer":     "",
		"usr/lib/systemd/system/fstrim.timer":                "",
		"usr/lib/systemd/system/e2scrub_all.timer":           "",
		"usr/lib/systemd/system/e2scrub_reap.service":        "",
		"usr/lib/systemd/system/man-db.timer":                "",
		"usr/sbin/sshd":                                      "", "usr/sbin/mkinitramfs": "", "usr/bin/ping": "",
		"etc/systemd/system/":                "",
		"etc/machine-id":                     "uninitialized\n",
		"var/lib/dbus/machine-id":            "-> /etc/machine-id",
		"etc/shadow":                         "root:*:20000::::::\npi:!:20000::::::\n",
		"var/lib/systemd/random-seed":        "seed",
		"etc/ssh/sshd_config":                "",
		"etc/resolv.conf":                    "# made by hand\n",
		"etc/initramfs-tools/initramfs.conf": "MODULES=dep\n",
	}
}

func networkManager() tree {
	return tree{"usr/sbin/NetworkManager": "", "usr/lib/systemd/system/NetworkManager.service": "", "etc/NetworkManager/NetworkManager.conf": ""}
}

func ifupdown() tree {
	return tree{"usr/sbin/ifup": "", "usr/lib/systemd/system/networking.service": "", "usr/lib/systemd/system/ifup@.service": "", "etc/network/interfaces": ""}
}

func raspios() tree {
	return tree{
		"etc/rpi-issue": "Raspberry Pi reference\n",
		"usr/lib/systemd/system/userconfig.service":               "",
		"usr/lib/systemd/system/rpi-eeprom-update.service":        "",
		"usr/lib/systemd/system/regenerate_ssh_host_keys.service": "",
	}
}

func cloudInit() tree { return tree{"usr/bin/cloud-init": "", "etc/cloud/cloud.cfg": ""} }

func resolved() tree {
	return tree{
		"etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf",
		"etc/systemd/system/sysinit.target.wants/systemd-resolved.service": "-> /usr/lib/systemd/system/systemd-resolved.service",
	}
}

// kernel is one for 64-bit ARM, as it is built, before any packing.
func kernel() string {
	return strings.Repeat("\x00", 56) + "ARM\x64" + strings.Repeat("kernel", 1<<18)
}

type root struct {
	name    string
	tree    tree
	capable []string // files with cap_net_raw
}

// roots are the releases in small form, as their images have what matters.
func roots() []root {
	firmware := tree{"boot/firmware/kernel8.img": "", "boot/firmware/config.txt": "", "etc/fstab": fstab("/boot/firmware")}
	old := tree{
		"boot/kernel8.img": "", "boot/config.txt": "", "boot/recovery.bin": "", "etc/fstab": fstab("/boot"),
		"etc/init.d/resize2fs_once": "", "etc/init.d/dphys-swapfile": "", "var/swap": "",
		"usr/lib/systemd/system/dphys-swapfile.service": "",
		"etc/dhcpcd.conf":          "hostname\npersistent",
		"etc/ssh/ssh_host_rsa_key": "secret", "etc/ssh/ssh_host_rsa_key.pub": "",
		"etc/wpa_supplicant/wpa_supplicant.conf": supplicantHead + supplicantHome,
	}
	out := []root{
		{"raspios-bullseye", with(systemd(), raspios(), ifupdown(), old, osRelease("raspbian", "bullseye")), []string{"usr/bin/ping"}},
		{"raspios-bookworm", with(systemd(), raspios(), networkManager(), ifupdown(), firmware, osRelease("debian", "bookworm"), tree{
			"etc/init.d/resize2fs_once": "", "usr/lib/systemd/system/dphys-swapfile.service": "",
			"boot/firmware/recovery.bin": "", "boot/firmware/pieeprom.upd": "", "boot/firmware/pieeprom.sig": "",
			"usr/bin/dumpcap": "", "etc/shadow": "root:*:1::::::\npi:$y$j9T$x:1::::::\n",
			"boot/firmware/custom.toml": "config_version = 1\n", "boot/firmware/ssh": "",
			"etc/NetworkManager/system-connections/preconfigured.nmconnection": "[connection]\nid=preconfigured\ntype=wifi\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=6ba1d0ef\n",
		}), []string{"usr/bin/ping", "usr/bin/dumpcap"}},
		{"raspios-trixie", with(systemd(), raspios(), networkManager(), firmware, cloudInit(), osRelease("debian", "trixie"), tree{
			"etc/rpi/swap.conf": "", "usr/lib/systemd/system/rpi-resize.service": "",
			"usr/lib/systemd/system/rpi-resize-swap-file.service": "", "boot/firmware/userconf.txt": "",
			"usr/lib/systemd/system/dphys-swapfile.service": "", "var/swap": "", "boot/firmware/user-data": "#cloud-config\n\n#users:\n",
			"etc/netplan/90-NM-6cf32279.yaml": netplanHome,
		}), nil},
		{"debian-bullseye", with(systemd(), ifupdown(), firmware, osRelease("debian", "bullseye"), tree{"usr/lib/systemd/system/rpi-resizerootfs.service": ""}), nil},
		{"debian-bookworm", with(systemd(), ifupdown(), osRelease("debian", "bookworm"), tree{
			"etc/systemd/system/multi-user.target.wants/ssh.service": "-> /lib/systemd/system/ssh.service",
			"boot/firmware/vmlinuz-6.1.0-56-arm64":                   kernel(), "boot/vmlinuz-6.1.0-56-arm64": kernel(),
			"boot/firmware/bcm2711-rpi-4-b.dtb": kernel(), "boot/firmware/kernel8.img": "\x1f\x8b" + kernel(),
			"boot/firmware/kernel7l.img": strings.Repeat("\x00", 36) + "\x18\x28\x6f\x01" + strings.Repeat("zImage", 1<<18),
		}), nil},
		{"debian-trixie", with(systemd(), ifupdown(), tree{"etc/initramfs-tools/conf.d/rubus": "MODULES=list\n"}, firmware, cloudInit(), osRelease("debian", "trixie"), tree{"etc/machine-id": ""}), nil},
	}
	for _, r := range []string{"jammy", "kinetic", "lunar", "mantic", "noble", "oracular", "plucky", "questing", "resolute"} {
		boot := tree{"boot/firmware/user-data": "#cloud-config\nchpasswd:\n  expire: true\n", "etc/systemd/system/sockets.target.wants/ssh.socket": "-> /usr/lib/systemd/system/ssh.socket", "boot/firmware/vmlinuz": "", "etc/fstab": "LABEL=writable / ext4 defaults 0 1\nLABEL=system-boot /boot/firmware vfat defaults 0 1\n"}
		if r == "resolute" {
			delete(boot, "boot/firmware/vmlinuz")
			boot = with(boot, tree{"boot/firmware/current/vmlinuz": "", "etc/fstab": "LABEL=writable / ext4 defaults 0 1\n"})
		}
		out = append(out, root{"ubuntu-" + r, with(systemd(), cloudInit(), resolved(), boot, osRelease("ubuntu", r)), nil})
	}
	return out
}

func fstab(boot string) string {
	return "proc /proc proc defaults 0 0\nPARTUUID=5e3da3da-01 " + boot + " vfat defaults 0 2\nPARTUUID=5e3da3da-02 / ext4 defaults,noatime 0 1\n"
}

package golden

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/treediff"
)

// Why a file is left out.
const (
	Identity = "identity"
	Secret   = "secret"
	Litter   = "litter"
)

// rule is a pattern of path.Match; one that ends in a slash is a directory with all
// below it.
type rule struct{ pattern, why string }

func rules() []rule {
	return []rule{
		{"etc/machine-id", Identity},
		{"var/lib/dbus/machine-id", Identity},
		{"etc/hostname", Identity},
		{"etc/ssh/ssh_host_*", Identity},
		{"var/lib/systemd/random-seed", Identity},
		{"var/lib/systemd/credential.secret", Secret},
		{"etc/wpa_supplicant/wpa_supplicant*.conf", Secret},
		{"etc/NetworkManager/system-connections/", Secret},
		{"etc/netplan/90-NM-*.yaml", Secret},
		{"var/lib/iwd/", Secret},
		{"root/.ssh/id_*", Secret},
		{"home/*/.ssh/id_*", Secret},
		{"root/.gnupg/", Secret},
		{"home/*/.gnupg/", Secret},
		{"root/.netrc", Secret},
		{"home/*/.netrc", Secret},
		{"root/.*_history", Litter},
		{"home/*/.*_history", Litter},
		{"var/log/", Litter},
		{"var/tmp/", Litter},
		{"var/spool/", Litter},
		{"var/lib/dhcp/", Litter},
		{"var/lib/dhcpcd/", Litter},
		{"var/lib/NetworkManager/", Litter},
		{"var/lib/systemd/timers/", Litter},
		{"var/lib/systemd/timesync/", Litter},
		{"var/cache/apt/", Litter},
		{"var/lib/apt/lists/", Litter},
		{"tmp/", Litter},
		{"run/", Litter},
	}
}

// LeftOut says why a change of a board does not belong into an image; "" when it does.
// A removal belongs, and so does what is at or below one of the paths in keep.
func LeftOut(c treediff.Change, keep []string) string {
	if c.New != nil && c.New.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return Litter
	}
	if c.Kind == treediff.Removed || treediff.IsBelow(c.Path, keep) {
		return ""
	}
	for _, r := range rules() {
		dir, isDir := strings.CutSuffix(r.pattern, "/")
		if !isDir {
			if ok, _ := path.Match(r.pattern, c.Path); ok {
				return r.why
			}
			continue
		}
		// The first names of the path, as many as the pattern has; the directory itself may change.
		names := strings.Split(c.Path, "/")
		n := strings.Count(dir, "/") + 1
		if len(names) <= n {
			continue
		}
		if ok, _ := path.Match(dir, strings.Join(names[:n], "/")); ok {
			return r.why
		}
	}
	return ""
}

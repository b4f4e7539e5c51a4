package rules

import (
	"errors"
	"slices"
	"strings"
)

const fstab = "/etc/fstab"

// readFstab is the file as the plan so far makes it; nothing when there is none.
func (m *planner) readFstab() ([]byte, error) {
	if c, ok := m.done[fstab]; ok {
		return c.Data, nil
	}
	b, err := m.t.Read(fstab)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	return b, err
}

// fstabStep makes comments of the lines that want a disk.
func (m *planner) fstabStep() error {
	b, err := m.readFstab()
	if err != nil || len(b) == 0 {
		return err
	}
	return m.write(fstab, withoutDisks(b), 0o644)
}

// bind mounts a directory to itself, unless something is mounted there. It is a line
// of fstab and no unit: with a boot-firmware.mount of its own an emulated board
// (systemd 252) never reached local-fs.target. Once it is there systemd takes a bind
// of NFS for a network mount; what fstab has is ordered before local-fs.target anyhow.
func (m *planner) bind(dir string) error {
	b, err := m.readFstab()
	if err != nil || mounts(b, dir) {
		return err
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	return m.write(fstab, append(b, dir+" "+dir+" none bind 0 0\n"...), 0o644)
}

// withoutDisks is fstab(5) without lines that a board with no disk can't do.
func withoutDisks(b []byte) []byte {
	var out []byte
	for l := range strings.Lines(string(b)) {
		if wantsDisk(strings.Fields(l)) {
			out = append(out, "# on the card: "...)
		}
		out = append(out, l...)
	}
	return out
}

func wantsDisk(f []string) bool {
	if len(f) < 3 || strings.HasPrefix(f[0], "#") {
		return false
	}
	if f[2] == "swap" {
		return true
	}
	disk := strings.HasPrefix(f[0], "/dev/") && f[0] != "/dev/nfs" && f[0] != "/dev/root"
	for _, tag := range []string{"UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID="} {
		disk = disk || strings.HasPrefix(f[0], tag)
	}
	switch f[1] {
	case "/", "/boot", "/boot/firmware":
		return disk
	}
	return disk && (len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), "nofail"))
}

// mounts says whether an fstab has a mount point.
func mounts(fstab []byte, point string) bool {
	for l := range strings.Lines(string(fstab)) {
		if f := strings.Fields(l); len(f) > 1 && !strings.HasPrefix(f[0], "#") && f[1] == point {
			return true
		}
	}
	return false
}

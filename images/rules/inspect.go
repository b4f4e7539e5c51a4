package rules

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// inspect finds what no rule can mend.
func (m *planner) inspect() error {
	kernel, err := m.hasKernel()
	if err != nil {
		return err
	}
	if !kernel {
		m.plan.Problems = append(m.plan.Problems, "no kernel in /boot/firmware or /boot that a board could fetch")
	}
	login, err := m.canLogIn()
	if err != nil {
		return err
	}
	if !login {
		m.plan.Notes = append(m.plan.Notes, "nobody can log in: there is no password and no authorized key; \"rubus image edit\" makes a user, authorized_keys in devices.yaml let root in")
	}
	if off, err := m.sshIsOff(); err != nil {
		return err
	} else if off {
		m.plan.Notes = append(m.plan.Notes, "ssh is there, but not enabled: \"systemctl enable ssh\" in \"rubus image edit\" does it")
	}
	if err := m.unheard(); err != nil {
		return err
	}
	for _, c := range m.plan.Lost {
		how := "works for root only"
		switch c.Policy {
		case policyPing:
			how = "works by net.ipv4.ping_group_range"
		case policySetuid:
			how = "is made setuid, as its package does it"
		}
		m.plan.Notes = append(m.plan.Notes, fmt.Sprintf("%s loses %s: it %s", c.Path, strings.Join(c.Capabilities, ", "), how))
	}
	return nil
}

func (m *planner) hasKernel() (bool, error) {
	for _, dir := range []string{"/boot/firmware", "/boot/firmware/current", "/boot"} {
		list, err := m.t.names(dir)
		if err != nil {
			return false, err
		}
		for _, n := range list {
			for _, pattern := range []string{"kernel*.img", "vmlinuz*"} {
				if ok, _ := path.Match(pattern, path.Base(n.Path)); ok {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// canLogIn says whether anybody has a password, or a key, or gets one at the first boot.
func (m *planner) canLogIn() (bool, error) {
	shadow, err := m.t.Read("/etc/shadow")
	if err == nil {
		for l := range strings.Lines(string(shadow)) {
			if f := strings.Split(l, ":"); len(f) > 1 && !strings.HasPrefix(f[1], "*") && !strings.HasPrefix(f[1], "!") {
				return true, nil
			}
		}
	}
	files := []string{"/root/.ssh/authorized_keys", "/boot/userconf.txt", "/boot/firmware/userconf.txt"}
	homes, err := m.t.names("/home")
	if err != nil {
		return false, err
	}
	for _, h := range homes {
		files = append(files, "/"+h.Path+"/.ssh/authorized_keys")
	}
	for _, f := range files {
		if ok, err := m.t.Exists(f); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// sshIsOff says whether the image has an ssh server that no boot starts, as Raspberry Pi OS has it.
func (m *planner) sshIsOff() (bool, error) {
	if ok, err := m.t.Exists("/usr/sbin/sshd"); !ok || err != nil {
		return false, err
	}
	for _, p := range []string{
		"/etc/systemd/system/multi-user.target.wants/ssh.service", "/etc/systemd/system/multi-user.target.wants/sshd.service",
		"/etc/systemd/system/sockets.target.wants/ssh.socket",
		"/boot/firmware/ssh", "/boot/firmware/ssh.txt", "/boot/ssh", "/boot/ssh.txt", // Raspberry Pi OS looks for these
	} {
		// What enables a unit may lead nowhere here.
		if _, n, err := m.t.find(p, false); err == nil && n != nil {
			return false, nil
		}
	}
	return true, nil
}

// unheard notes settings for a first boot from a card, as Raspberry Pi Imager writes them, that nobody
// reads: the kernel's command line and cloud-init would have had them done.
func (m *planner) unheard() error {
	for _, dir := range []string{"/boot/firmware", "/boot"} {
		for _, name := range []string{"firstrun.sh", "custom.toml", "rpi-preseed.toml", "user-data"} {
			b, err := m.t.Read(path.Join(dir, name))
			if errors.Is(err, errAbsent) {
				continue
			}
			if err != nil {
				return err
			}
			if says(b) {
				m.plan.Notes = append(m.plan.Notes, path.Join(dir, name)+" is for the first boot from a card, and is not done: boards are set up by devices.yaml and \"rubus image edit\"")
			}
		}
	}
	return nil
}

// says tells whether a file has more than comments.
func says(b []byte) bool {
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			return true
		}
	}
	return false
}

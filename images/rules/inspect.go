package rules

import (
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
		m.plan.Notes = append(m.plan.Notes, "nobody can log in: there is no password and no authorized key; \"rubus image edit\" makes a user")
	}
	for _, c := range m.plan.Lost {
		how := "works for root only"
		if c.Policy == policyPing {
			how = "works by net.ipv4.ping_group_range"
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

package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/layered"
)

// Policies for programs that lose their capabilities.
const (
	policyPing   = "ping-group" // everybody may ping by ICMP sockets, which need none
	policySetuid = "setuid"     // as its package makes it where capabilities can't be set
	policyRoot   = "root"       // it works for root, who needs none
)

// pingConf lets every group open ICMP sockets.
const pingConf = "# File capabilities get lost over NFSv3: ping uses ICMP sockets instead.\nnet.ipv4.ping_group_range = 0 2147483647\n"

// Capable is a program with file capabilities.
type Capable struct {
	Path         string   `json:"path"`
	Capabilities []string `json:"capabilities"`
	// Policy is what becomes of it: "ping-group", "setuid" or "root".
	Policy string `json:"policy"`
}

// capabilities looks for file capabilities in the whole tree.
func (m *planner) capabilities() error {
	root, err := m.t.v.Root()
	if err != nil {
		return err
	}
	if err := m.walk(root); err != nil {
		return err
	}
	pings := false
	for _, c := range m.plan.Lost {
		switch c.Policy {
		case policyPing:
			pings = true
		case policySetuid:
			if err := m.change(Change{Path: c.Path, Kind: Setuid}); err != nil {
				return err
			}
		}
	}
	// One without capabilities has lost them already: in a tarball, or on a board.
	for _, p := range []string{"/usr/bin/ping", "/bin/ping"} {
		_, n, err := m.t.find(p, true)
		if err != nil && !isOdd(err) {
			return err
		}
		pings = pings || err == nil && n != nil && n.IsRegular() && n.Stat.Mode&unix.S_ISUID == 0
	}
	if !pings {
		return nil
	}
	return m.write("/etc/sysctl.d/50-rubus-ping.conf", []byte(pingConf), 0o644)
}

func (m *planner) walk(dir *layered.Node) error {
	list, err := m.t.v.List(dir)
	if err != nil {
		return err
	}
	for _, n := range list {
		switch {
		case n.IsDir():
			if err := m.walk(n); err != nil {
				return err
			}
		case n.IsRegular() && n.Stat.Mode&0o111 != 0:
			x, err := m.t.v.Xattrs(n)
			if err != nil {
				return err
			}
			v, ok := x["security.capability"]
			if !ok {
				continue
			}
			c := Capable{Path: "/" + n.Path, Policy: policyRoot}
			if c.Capabilities, err = parseCapability([]byte(v)); err != nil {
				c.Capabilities = []string{"unknown"}
			}
			// Who is not root's would get somebody else's rights by the bit.
			if p, ok := m.pack.policies[path.Base(n.Path)]; ok && (p != policySetuid || n.Stat.Uid == 0) {
				c.Policy = p
			}
			m.plan.Lost = append(m.plan.Lost, c)
		}
	}
	return nil
}

// parseCapability reads the attribute security.capability: struct vfs_cap_data and
// vfs_ns_cap_data of Linux' uapi/linux/capability.h.
func parseCapability(b []byte) ([]string, error) {
	const revision1, revision2, revision3 = 0x01000000, 0x02000000, 0x03000000
	if len(b) < 4 {
		return nil, errors.New("a capability attribute is cut off")
	}
	le := binary.LittleEndian
	want := map[uint32]int{revision1: 12, revision2: 20, revision3: 24}[le.Uint32(b)&0xff000000]
	if want == 0 || len(b) != want {
		return nil, fmt.Errorf("a capability attribute of revision %#x has %d bytes", le.Uint32(b)>>24, len(b))
	}
	set := uint64(le.Uint32(b[4:]) | le.Uint32(b[8:])) // permitted or inheritable
	if want > 12 {
		set |= uint64(le.Uint32(b[12:])|le.Uint32(b[16:])) << 32
	}
	names := strings.Fields(capNames)
	out := []string{}
	for i := range 64 {
		if set&(1<<i) == 0 {
			continue
		}
		if i < len(names) {
			out = append(out, "cap_"+names[i])
		} else {
			out = append(out, fmt.Sprintf("cap_%d", i))
		}
	}
	return out, nil
}

// capNames are the capabilities by number, as Linux 6.18 has them.
const capNames = `chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap
linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module
sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time
sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog
wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`

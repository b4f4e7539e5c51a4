// Package ports opens the daemon's listeners and names who holds a port.
package ports

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// InUse is a listener that could not be opened because another program has
// the port.
type InUse struct {
	// Network is "tcp" or "udp", Address what was wanted.
	Network string
	Address netip.AddrPort
	// Holder is the program that has it, such as "rpcbind (pid 411)"; "" when
	// it cannot be told.
	Holder string
	Err    error
}

// Error names the port and who holds it.
func (e *InUse) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "another program"
	}
	return fmt.Sprintf("port %d/%s on %s is held by %s", e.Address.Port(), e.Network, e.Address.Addr(), holder)
}

// Unwrap gives the system's error.
func (e *InUse) Unwrap() error { return e.Err }

// Explain turns an "address already in use" into an InUse that names the
// holder; other errors are given back as they are.
func Explain(err error, network string, addr netip.AddrPort) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	return &InUse{Network: network, Address: addr, Holder: Holder(network, addr), Err: err}
}

// Addresses resolves what "listen" says: the address itself, or the IPv4
// addresses of an interface.
func Addresses(iface string, addr netip.Addr) ([]netip.Addr, error) {
	if addr.IsValid() {
		return []netip.Addr{addr}, nil
	}
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", iface, err)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", iface, err)
	}
	var out []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			out = append(out, p.Addr())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("interface %q has no IPv4 address", iface)
	}
	return out, nil
}

// unseen is a holder that is no process here.
const unseen = "the kernel or a program of another namespace"

// Free says what to do so that a holder lets go of a port.
func Free(port uint16, holder string) string {
	const nfs, portmap = 2049, 111
	switch {
	case port == nfs && holder == unseen:
		return "if it is this host's own NFS server: \"sudo systemctl disable --now nfs-server\""
	case port == portmap && (strings.HasPrefix(holder, "rpcbind ") || holder == socketUnit):
		return "if nothing else here needs rpcbind: \"sudo systemctl disable --now rpcbind.socket rpcbind\""
	case holder == socketUnit:
		return "\"systemctl list-sockets\" says which unit has it: disable that"
	}
	return "stop that program"
}

// socketUnit is a holder that waits for somebody to call, and starts another program then.
const socketUnit = "systemd (pid 1)"

// Holder names the program that has a port: its name and pid, or, when it
// cannot be seen, that the kernel or another namespace has it; "" when nobody
// is found.
func Holder(network string, addr netip.AddrPort) string {
	for _, suffix := range []string{"", "6"} {
		f, err := os.Open("/proc/net/" + network + suffix)
		if err != nil {
			continue
		}
		inode := findSocket(f, network, addr)
		f.Close()
		if inode == "" {
			continue
		}
		if who := findProcess("/proc", inode); who != "" {
			return who
		}
		return unseen
	}
	return ""
}

// findSocket looks in a table of /proc/net for the socket that keeps addr from
// being bound, and gives its inode number; "" when there is none.
func findSocket(table io.Reader, network string, addr netip.AddrPort) string {
	sc := bufio.NewScanner(table)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[0] == "sl" {
			continue
		}
		local, ok := parseLocal(f[1])
		if !ok || local.Port() != addr.Port() {
			continue
		}
		// 0A: LISTEN. A UDP socket that is bound is in the way in any state.
		if network == "tcp" && f[3] != "0A" {
			continue
		}
		if local.Addr().IsUnspecified() || addr.Addr().IsUnspecified() || local.Addr().Unmap() == addr.Addr().Unmap() {
			return f[9]
		}
	}
	return ""
}

// parseLocal reads the address form of /proc/net: 32-bit words in the host's
// byte order, which is little-endian on all machines rubus is built for.
func parseLocal(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	if !ok {
		return netip.AddrPort{}, false
	}
	b, err := hex.DecodeString(host)
	if err != nil || (len(b) != 4 && len(b) != 16) {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, _ := netip.AddrFromSlice(b)
	p, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(a, uint16(p)), err == nil
}

// findProcess finds the process that has a socket open.
func findProcess(proc, inode string) string {
	want := "socket:[" + inode + "]"
	fds, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return ""
}

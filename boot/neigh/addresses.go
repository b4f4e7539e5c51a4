package neigh

import (
	"bytes"
	"net/netip"
	"slices"

	"rubus/config/device"
)

// Addresses are the IPv4 addresses that the kernel's tables of all links give to a
// MAC now, in order: those it was heard at lately. Nothing is sent.
func (t *Table) Addresses(mac device.MAC) ([]netip.Addr, error) {
	all, err := neighbours()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, n := range all {
		a, ok := netip.AddrFromSlice(n.IP.To4())
		if !ok || !bytes.Equal(n.HardwareAddr, mac[:]) || slices.Contains(out, a) {
			continue
		}
		if _, state := entry(&n); state == Stale || state == Reachable {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

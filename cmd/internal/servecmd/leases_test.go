package servecmd

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"rubus/boot/dhcpserver"
	"rubus/cmd/internal/control"
	"rubus/config/device"
)

func TestLeasesOf(t *testing.T) {
	now := time.Unix(1e9, 0)
	board, laptop := device.MAC{2, 1}, device.MAC{2, 2}
	lease := func(last byte, mac device.MAC, s dhcpserver.State, until time.Duration) dhcpserver.Lease {
		return dhcpserver.Lease{Address: netip.AddrFrom4([4]byte{10, 0, 0, last}), MAC: mac, State: s, Until: now.Add(until), Host: "h"}
	}
	got := leasesOf([]dhcpserver.Lease{
		lease(1, board, dhcpserver.Bound, time.Hour), lease(2, laptop, dhcpserver.Bound, -time.Hour), lease(3, laptop, dhcpserver.Released, 0),
		lease(4, device.MAC{}, dhcpserver.Conflict, time.Minute), lease(5, device.MAC{}, dhcpserver.Conflict, -time.Minute),
	}, map[device.MAC]control.Board{board: {Name: "bench-01"}}, now)
	var lines []string
	for _, l := range got {
		lines = append(lines, fmt.Sprintf("%s %s %q", l.Address, l.State, l.Name))
	}
	want := []string{`10.0.0.1 bound "bench-01"`, `10.0.0.2 expired ""`, `10.0.0.3 released ""`, `10.0.0.4 conflict ""`}
	if !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}

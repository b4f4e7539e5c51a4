package unfsd_test

import (
	"net/netip"
	"testing"
)

// TestPlacesOfMount: all connections of MOUNT and the port mapper are held by others, each from
// an address of its own; a board asks for the port and mounts all the same.
func TestPlacesOfMount(t *testing.T) {
	const files, places = 1024, 1024 / 64
	exports := roots(t, 1, golden)
	startServer(t, "/proc/self/exe", spec{Addr: serverAddr, Files: files, Exports: exports})
	for _, port := range []uint16{111, 20048} {
		for i := range 2 * places {
			nc, err := dial(netip.AddrFrom4([4]byte{127, 60, byte(port), byte(i + 1)}), port, false)
			must(t, err)
			t.Cleanup(func() { nc.Close() })
		}
	}
	x := exports[0]
	if _, err := mountRoot(x.Client, x.Path); err != nil {
		t.Error(err)
	}
	c, err := dial(x.Client, 111, false)
	must(t, err)
	defer c.Close()
	if _, err := c.call(100000, 2, 3, cred{}, args(100003, 3, 6, 0)); err != nil {
		t.Error(err)
	}
}

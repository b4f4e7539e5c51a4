package pidhcp

import (
	"net/netip"
	"strings"
	"testing"
)

// Each server is told the address, and the text that a Pi looks for.
func TestElsewhere(t *testing.T) {
	const menu = "0601030a0400505845091700001452617370626572727920506920426f6f74202020ff"
	all := Elsewhere(netip.MustParseAddr("10.0.0.2"))
	if len(all) != 3 {
		t.Fatalf("%d servers", len(all))
	}
	for _, s := range all {
		if !strings.Contains(s.Text, "10.0.0.2") || !strings.Contains(s.Text, "PXEClient:Arch:00000:UNDI:002001") {
			t.Errorf("%s is not told where and whom:\n%s", s.Name, s.Text)
		}
		if !strings.Contains(strings.ReplaceAll(s.Text, ":", ""), menu) {
			t.Errorf("%s is not told option 43:\n%s", s.Name, s.Text)
		}
	}
}

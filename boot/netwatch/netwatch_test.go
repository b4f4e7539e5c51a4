package netwatch

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// TestRun changes links and addresses, each when the change before it was heard.
func TestRun(t *testing.T) {
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan struct{}, 1)
	over := make(chan error, 1)
	go func() {
		over <- Run(ctx, func() {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
	}()
	<-heard // it listens
	defer exec.Command("ip", "link", "del", "watch0").Run()
	for _, step := range []struct {
		name, change string
		there        func() bool
	}{
		{"a link comes", "link add watch0 type bridge", func() bool { return addresses("watch0") == "" }},
		{"it gets an address", "addr add 192.0.2.9/24 dev watch0", func() bool { return addresses("watch0") == "192.0.2.9/24" }},
		{"it loses it", "addr del 192.0.2.9/24 dev watch0", func() bool { return addresses("watch0") == "" }},
		{"it goes", "link del watch0", func() bool { return addresses("watch0") == "gone" }},
	} {
		t.Run(step.name, func(t *testing.T) {
			ip(step.change)
			for {
				select {
				case <-heard:
				case <-t.Context().Done():
					t.Fatal("not heard")
				case err := <-over:
					t.Fatalf("Run ended: %v", err)
				}
				if step.there() { // else a word of the step before
					return
				}
			}
		})
	}
	cancel()
	if err := <-over; err != nil {
		t.Errorf("at the end: %v", err)
	}
}

// addresses are those of an interface in words; "gone": there is none.
func addresses(name string) string {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return "gone"
	}
	var out []string
	addrs, _ := ifi.Addrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			out = append(out, a.String())
		}
	}
	return strings.Join(out, " ")
}

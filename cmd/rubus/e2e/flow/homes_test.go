package flow

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
)

// On a server with two networks each board meets one address only, that of the
// network it is on: in the OFFER, as the source of its files, and in the command
// line. Neither board is in devices.yaml: {boot: IMAGE} has a classroom come up
// without a word.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useEvery()
	second := "br1"
	s.host.run(t, "ip", "link", "add", second, "type", "bridge")
	s.host.run(t, "ip", "addr", "add", "10.78.0.1/24", "dev", second)
	s.host.run(t, "ip", "link", "set", second, "up")
	s.dnsmasq(s.host, bridge, append([]string{"--interface=" + second, "--dhcp-range=10.78.0.50,10.78.0.99,255.255.255.0,120"}, onePool...))
	s.devices("version: 1\nunknown: {boot: lab}\n")
	s.write("rubus.yaml", "listen: ["+bridge+", "+second+"]\n")
	s.serve()
	for i, home := range []struct{ iface, addr string }{{bridge, hostAddr}, {second, "10.78.0.1"}} {
		for _, model := range []string{"3b+", "4b"} {
			serial := fmt.Sprintf("5b15460%d", 2*i+len(model)%2)
			pi, err := fakepi.NewBoard(model, parseSerial(t, serial), [6]byte{})
			must(t, err)
			var tap *nic.Tap
			must(t, s.host.do(func() (err error) {
				tap, err = nic.OpenTap(home.iface)
				return err
			}))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			res, err := fakepi.Run(ctx, pi, fakepi.Options{Link: tap, Patience: 2})
			cancel()
			tap.Close()
			if err != nil {
				t.Fatalf("a %s on %s: %v", model, home.iface, err)
			}
			if res.Server.String() != home.addr || !strings.Contains(res.Cmdline, "nfsroot="+home.addr+":/"+serial) || len(res.Kernel.Data) == 0 {
				t.Errorf("a %s on %s: files from %s (%s), command line %q", model, home.iface, res.Server, res.Why, res.Cmdline)
			}
		}
	}
}

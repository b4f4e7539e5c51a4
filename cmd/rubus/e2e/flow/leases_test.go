package flow

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/child"
	"rubus/cmd/rubus/e2e/harness"
)

// addressServer has rubus give out addresses.
const addressServer = "listen: [" + bridge + "]\ndhcp: {mode: server, range: 10.77.0.50-10.77.0.99, lease: 2m, router: " + hostAddr + ", domain: lab}\n"

// dhcpClient runs a system's DHCP client on eth0 of a namespace. What it is told
// goes to a file, a line for each event: "bound 10.77.0.50/24 10.77.0.1 lab".
func (s *site) dhcpClient(n *netns, name string) (p *child.Process, log string) {
	s.t.Helper()
	script, log := filepath.Join(s.dir, name+".sh"), filepath.Join(s.dir, name+".log")
	must(s.t, os.WriteFile(script, []byte(`#!/bin/sh
case $1 in
bound) ip addr flush dev $interface; ip addr add $ip/$mask dev $interface ;;
deconfig) ip addr flush dev $interface; ip link set $interface up ;;
esac
echo "$1 $ip/$mask $router $domain $serverid" >>`+log+"\n"), 0o755))
	cmd := n.command(context.Background(), "busybox", "udhcpc", "-f", "-i", "eth0", "-s", script, "-t", "20", "-T", "1", "-a", "-O", "domain")
	p, err := child.Start(cmd)
	must(s.t, err)
	s.t.Cleanup(func() { p.Stop(5 * time.Second) })
	return p, log
}

// lastEvent is what a DHCP client was told last.
func lastEvent(log string) (event, addr string, line string) {
	b, _ := os.ReadFile(log) // not there yet: empty
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	line = lines[len(lines)-1]
	f := strings.Fields(line)
	if len(f) < 2 {
		return "", "", line
	}
	addr, _, _ = strings.Cut(f[1], "/")
	return f[0], addr, line
}

// With rubus as the only DHCP server every kind of board boots, and the client
// of its system gets the firmware's address, renews it, also after a kill of
// rubus, and gives it back.
func TestAddressServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useEvery()
	s.plug(newNetns(t), "keep0", "02:00:00:00:00:77", "10.77.0.250") // a bridge without a port hears nobody
	var devices []string
	models := fakepi.Models()
	serial := func(i int) string { return fmt.Sprintf("%08x", 0x5b154600+i) }
	for i := range models {
		devices = append(devices, "serial: "+serial(i))
	}
	devices[0] += ", address: 10.77.0.7" // outside of the range
	s.devices(deviceLines(devices...))
	s.write("rubus.yaml", addressServer)
	d := s.serve()
	harness.Until(t, 30*time.Second, "addresses", func() error { return d.Said(0, "giving out addresses") })

	for i, m := range models {
		pi, err := fakepi.NewBoard(m.Name, parseSerial(t, serial(i)), [6]byte{})
		must(t, err)
		b := s.newBoard(m.Name, serial(i), pi.MAC.String())
		res := b.fetch()
		if res.Server.String() != hostAddr || res.AddressServer.String() != hostAddr || !strings.Contains(res.Cmdline, "nfsroot="+hostAddr+":/"+serial(i)) {
			t.Errorf("%s: files from %s, address from %s, command line %q", m.Name, res.Server, res.AddressServer, res.Cmdline)
		}
		addr := res.Address.Addr()
		inRange := addr.Compare(netip.MustParseAddr("10.77.0.50")) >= 0 && addr.Compare(netip.MustParseAddr("10.77.0.99")) <= 0
		if i == 0 && addr.String() != "10.77.0.7" || i > 0 && !inRange {
			t.Errorf("%s: address %s", m.Name, addr)
		}
		b.net = newNetns(t)
		s.plug(b.net, b.port, b.mac.String(), "169.254.7.7")
		t.Cleanup(b.off)
		client, log := s.dhcpClient(b.net, m.Name)
		want := func(events ...string) {
			t.Helper()
			harness.Until(t, 20*time.Second, m.Name+"'s system: "+strings.Join(events, " or "), func() error {
				event, got, line := lastEvent(log)
				for _, e := range events {
					if e == event && got == addr.String() {
						return nil
					}
				}
				return fmt.Errorf("the last event is %q, the firmware had %s", line, addr)
			})
		}
		want("bound")
		if _, _, line := lastEvent(log); !strings.Contains(line, "/24 "+hostAddr+" lab "+hostAddr) {
			t.Errorf("%s: %q", m.Name, line)
		}
		must(t, os.Remove(log))
		must(t, client.Signal(syscall.SIGUSR1))
		want("renew", "bound")
		if i == 0 {
			d.Kill()
			d.Start()
			harness.Until(t, 30*time.Second, "addresses", func() error { return d.Said(d.From, "giving out addresses") })
			must(t, os.Remove(log))
			must(t, client.Signal(syscall.SIGUSR1))
			want("renew", "bound")
		}
		must(t, func() (err error) {
			b.root, err = b.mount(hostAddr, strings.Split(strings.SplitN(res.Cmdline, hostAddr+":", 2)[1], ",")[0])
			return err
		}())
		must(t, b.has("etc/version", "1\n"))
		if i > 0 {
			continue // the others stay, so that the addresses differ
		}
	}
	files, err := filepath.Glob(filepath.Join(s.state, "leases", "10.77.0.*.json"))
	if err != nil || len(files) != len(models) {
		t.Errorf("%d boards have the leases %q, %v", len(models), files, err)
	}
}

// Beside the site's DHCP server rubus gives out nothing, says so, and serves the
// boards that are there all the same; with force it does what it is told.
func TestAddressServerIsNotAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.router(onePool)
	s.devices(deviceLines("serial: " + serialB + ", mac: " + macB))
	s.write("rubus.yaml", addressServer)
	d := s.serve()
	harness.Until(t, 30*time.Second, "the other server is heard", func() error { return d.Said(0, "no addresses are given out", routerAddr) })
	if st := s.status(); len(st.NoDHCP) != 1 || !strings.Contains(st.NoDHCP[0], routerAddr) {
		t.Errorf("the status says %q", st.NoDHCP)
	}
	has(t, "rubus status", s.rubus("status").stderr, "no addresses are given out", routerAddr)
	b := s.newBoard("4b", serialB, macB)
	b.notServed()
	d.Stop()
	s.write("rubus.yaml", strings.Replace(addressServer, "mode: server", "mode: server, force: true", 1))
	d.Start()
	res := b.fetch()
	if res.Server.String() != hostAddr {
		t.Errorf("files from %s (%s)", res.Server, res.Why)
	}
}

// useEvery gives the site an image "lab" that firmware of every model finds
// complete.
func (s *site) useEvery() {
	s.t.Helper()
	root := tinyRoot(s.t, s.dir, "1")
	for _, name := range []string{
		"bcm2710-rpi-3-b-plus.dtb", "bcm2711-rpi-400.dtb", "bcm2711-rpi-cm4.dtb",
		"bcm2712-rpi-5-b.dtb", "bcm2712-rpi-500.dtb", "bcm2712-rpi-cm5-cm5io.dtb",
	} {
		must(s.t, os.WriteFile(filepath.Join(root, "boot/firmware", name), []byte("brcm,bcm2712 "+name), 0o644))
	}
	s.must("image", "import", "lab", root)
}

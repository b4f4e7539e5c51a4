package neigh

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"rubus/boot/nettest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// port is a port of bridge, whose other end is eth0 of a new namespace, a host
// with a MAC and an address.
func port(t testing.TB, bridge, name, mac, cidr string) netns.NsHandle {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	must(t, err)
	ns := nettest.New(t)
	v := &netlink.Veth{
		LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(ns),
	}
	v.Name = name
	must(t, netlink.LinkAdd(v))
	t.Cleanup(func() { _ = netlink.LinkDel(v) })
	must(t, netlink.LinkSetMaster(v, nettest.Link(t, bridge)))
	must(t, netlink.LinkSetUp(v))
	nettest.Within(t, ns, func() {
		nettest.Address(t, "eth0", cidr)
		must(t, netlink.LinkSetUp(nettest.Link(t, "eth0")))
		running(t, "eth0")
	})
	running(t, name)
	running(t, bridge)
	return ns
}

// running waits until a link carries frames: up to a second after it was set
// up, the kernel still drops what is sent.
func running(t testing.TB, name string) {
	t.Helper()
	eventually(t, name+" is running", func() bool {
		_, err := carrierOf(nettest.Link(t, name).Attrs())
		return err == nil
	})
}

// lan is a bridge br0 with our address 10.0.0.1/24 that forwards from the start.
func lan(t testing.TB) {
	t.Helper()
	nettest.Private(t)
	b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	b.Name = "br0"
	must(t, netlink.LinkAdd(b))
	t.Cleanup(func() { _ = netlink.LinkDel(b) })
	must(t, netlink.LinkSetUp(b))
	nettest.Address(t, "br0", "10.0.0.1/24")
}

// sysctl sets a value below /proc/sys in the namespace of the calling thread.
func sysctl(t testing.TB, name, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/"+name, []byte(value), 0o644))
}

// eventually waits until something holds, without a clock of its own: it asks
// the kernel again and again, at most for a while.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came: %s", what)
		}
	}
}

package neigh

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// private fails the test unless it has a network namespace of its own, which
// shows by having no link that is up but the loopback.
func private(t testing.TB) {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if a := l.Attrs(); a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 {
			t.Fatalf("%q is up: needs root and a network namespace of its own: go test -exec scripts/in-ns", a.Name)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within runs f on a thread that is in a namespace.
func within(t testing.TB, ns netns.NsHandle, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	must(t, netns.Set(ns))
	f()
	must(t, netns.Set(home))
}

// newNS makes another namespace with its loopback up; it ends with the test.
func newNS(t testing.TB) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	must(t, netlink.LinkSetUp(byName(t, "lo")))
	must(t, netns.Set(home))
	return ns
}

func byName(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func addr(t testing.TB, name, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	must(t, netlink.AddrAdd(byName(t, name), a))
}

// port is a port of bridge, whose other end is eth0 of a new namespace, a host
// with a MAC and an address.
func port(t testing.TB, bridge, name, mac, cidr string) netns.NsHandle {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	must(t, err)
	ns := newNS(t)
	v := &netlink.Veth{
		LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(ns),
	}
	v.Name = name
	must(t, netlink.LinkAdd(v))
	t.Cleanup(func() { _ = netlink.LinkDel(v) })
	must(t, netlink.LinkSetMaster(v, byName(t, bridge)))
	must(t, netlink.LinkSetUp(v))
	within(t, ns, func() {
		addr(t, "eth0", cidr)
		must(t, netlink.LinkSetUp(byName(t, "eth0")))
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
		_, err := carrier(byName(t, name).Attrs().Index)
		return err == nil
	})
}

// lan is a bridge br0 with our address 10.0.0.1/24 that forwards from the start.
func lan(t testing.TB) {
	t.Helper()
	private(t)
	b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	b.Name = "br0"
	must(t, netlink.LinkAdd(b))
	t.Cleanup(func() { _ = netlink.LinkDel(b) })
	must(t, netlink.LinkSetUp(b))
	addr(t, "br0", "10.0.0.1/24")
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

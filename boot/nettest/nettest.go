// Package nettest gives tests network namespaces of their own, and links in them.
package nettest

import (
	"errors"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Private fails the test unless it has a network namespace of its own, which
// shows by having no link that is up but the loopback.
func Private(t testing.TB) {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		if a := l.Attrs(); a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 {
			t.Fatalf("%q is up: needs root and a network namespace of its own: go test -exec scripts/in-ns", a.Name)
		}
	}
}

// New makes another namespace with its loopback up; it ends with the test.
func New(t testing.TB) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	must(t, netlink.LinkSetUp(Link(t, "lo")))
	must(t, netns.Set(home))
	return ns
}

// Within runs f on a thread that is in a namespace.
func Within(t testing.TB, ns netns.NsHandle, f func()) {
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

// patience bounds Settled, which ends as soon as it may.
const patience = time.Minute

// Settled waits until all links that are up in the namespace of the calling thread, cables
// and bridges, carry frames. The kernel looks at links that were set up once a second
// (net/core/link_watch.c), and drops what is sent before; so does a bridge with what comes in
// at its port.
func Settled(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		links, err := netlink.LinkList()
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		must(t, err)
		waits := slices.IndexFunc(links, func(l netlink.Link) bool {
			a := l.Attrs()
			// Unknown is what was not looked at yet.
			return a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 && a.OperState != netlink.OperUp
		})
		if waits < 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q carries no frames", links[waits].Attrs().Name)
		}
	}
}

// Link is the link of a name in the namespace of the calling thread.
func Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

// Address gives a link one more address, as in "10.0.0.1/24".
func Address(t testing.TB, name, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	must(t, netlink.AddrAdd(Link(t, name), a))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

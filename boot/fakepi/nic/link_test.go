package nic

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace puts the test's thread into a network namespace of its own, which
// ends with the thread.
func namespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
}

// up adds a device with an address, which the host has, and sets it up.
func up(t *testing.T, link netlink.Link, addr string) {
	t.Helper()
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	if addr != "" {
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// A card that is one of many on an interface hears its own frames and those for all.
func TestSwitch(t *testing.T) {
	namespace(t)
	up(t, &netlink.Veth{LinkAttrs: named("v0"), PeerName: "v1"}, "")
	peer, err := netlink.LinkByName("v1")
	if err == nil {
		err = netlink.LinkSetUp(peer)
	}
	if err != nil {
		t.Fatal(err)
	}
	from, err := OpenRaw("v0")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	cable, err := OpenMany("v1")
	if err != nil {
		t.Fatal(err)
	}
	defer cable.Close()
	to := NewSwitch(cable).Plug(boardMAC)
	// hears gives the index of the next of our frames.
	b := make([]byte, 1500)
	hears := func(wait time.Duration) (byte, error) {
		if err := to.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := to.ReadFrame(b)
			if err != nil {
				return 0, err
			}
			if n == 75 && b[12] == 0x88 { // not the kernel's own
				return b[14], nil
			}
		}
	}
	says := func(mac [6]byte, i byte) {
		frame := append(mac[:], 2, 0, 0, 0, 0, 9, 0x88, 0xb5, i) // for experiments
		if err := from.WriteFrame(append(frame, make([]byte, 60)...)); err != nil {
			t.Fatal(err)
		}
	}
	// A cable takes a moment until it carries frames; what is sent before is lost.
	const first = 255
	for end := time.Now().Add(time.Minute); ; {
		says(boardMAC, first)
		if _, err := hears(50 * time.Millisecond); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the cable carries no frames")
		}
	}
	near, far := boardMAC, boardMAC
	near[5]++
	far[0] ^= 4
	for i, mac := range [][6]byte{near, boardMAC, far, {255, 255, 255, 255, 255, 255}, near, {1, 0, 94, 0, 0, 251}, far, boardMAC} {
		says(mac, byte(i))
	}
	var heard []byte
	for len(heard) < 4 {
		i, err := hears(10 * time.Second)
		if err != nil {
			t.Fatalf("after the frames %d: %v", heard, err)
		}
		if i != first {
			heard = append(heard, i)
		}
	}
	if want := []byte{1, 3, 5, 7}; !slices.Equal(heard, want) {
		t.Errorf("heard the frames %d, want %d", heard, want)
	}
}

// TestAgainstKernel exchanges datagrams with a socket of the host's: from a
// port of its bridge, and from the far end of a cable. The datagram from the
// host over a cable has no UDP checksum yet.
func TestAgainstKernel(t *testing.T) {
	for name, setup := range map[string]func(t *testing.T) string{
		"bridge": func(t *testing.T) string {
			up(t, &netlink.Bridge{LinkAttrs: named("br0")}, "10.0.0.1/24")
			return "br0"
		},
		"cable": func(t *testing.T) string {
			up(t, &netlink.Veth{LinkAttrs: named("v0"), PeerName: "v1"}, "10.0.0.1/24")
			peer, err := netlink.LinkByName("v1")
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.LinkSetUp(peer); err != nil {
				t.Fatal(err)
			}
			return "v1"
		},
	} {
		t.Run(name, func(t *testing.T) {
			namespace(t)
			link, err := Open(setup(t))
			if err != nil {
				t.Fatal(err)
			}
			defer link.Close()
			board := NewStack(link, boardMAC)
			board.SetAddr(boardIP, netip.Addr{})
			board.Checksum = name == "bridge"
			host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 6900})
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()

			if err := board.Send(t.Context(), 49152, netip.MustParseAddrPort("10.0.0.1:6900"), []byte("ping")); err != nil {
				t.Fatal(err)
			}
			if err := host.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			n, from, err := host.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != "ping" || from.String() != "10.0.0.17:49152" {
				t.Fatalf("the host got %q from %v: %v", buf[:n], from, err)
			}
			if _, err := host.WriteToUDPAddrPort([]byte("pong"), from); err != nil {
				t.Fatal(err)
			}
			d, err := board.Receive(t.Context(), time.Now().Add(5*time.Second))
			if err != nil || string(d.Payload) != "pong" || d.Src.String() != "10.0.0.1:6900" {
				t.Fatalf("the board got %+v: %v", d, err)
			}
			if _, err := board.Receive(t.Context(), time.Now().Add(50*time.Millisecond)); !errors.Is(err, ErrTimeout) {
				t.Fatal(err)
			}
		})
	}
}

// TestTapGoes: the device goes with the last file that is open on it.
func TestTapGoes(t *testing.T) {
	namespace(t)
	up(t, &netlink.Bridge{LinkAttrs: named("br0")}, "")
	tap, err := OpenTap("br0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(tap.Name()); err != nil {
		t.Fatal(err)
	}
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(tap.Name()); err == nil {
		t.Fatal("still there")
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open("nothere0"); err == nil {
		t.Error("an interface that is not there")
	}
	if _, err := OpenTap("lo"); err == nil {
		t.Error("the loopback is no bridge")
	}
}

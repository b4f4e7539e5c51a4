package proxydhcp

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"rubus/boot/dhcplink"
	"rubus/boot/nettest"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// patience bounds every wait; nothing waits that long unless it fails.
const patience = 20 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// add makes a link, sets it up and removes it after the test.
func add(t testing.TB, l netlink.Link) {
	t.Helper()
	must(t, netlink.LinkAdd(l))
	t.Cleanup(func() { _ = netlink.LinkDel(l) })
	must(t, netlink.LinkSetUp(l))
}

// cable makes a veth pair, both ends up, the second with a MAC. With a bridge,
// the first is its port.
func cable(t testing.TB, near, far, mac, bridge string) {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	must(t, err)
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: far, PeerHardwareAddr: hw}
	v.Name = near
	add(t, v)
	must(t, netlink.LinkSetUp(nettest.Link(t, far)))
	if bridge != "" {
		must(t, netlink.LinkSetMaster(v, nettest.Link(t, bridge)))
	}
}

func bridge(t testing.TB, name string) {
	t.Helper()
	b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	b.Name = name
	add(t, b)
}

// move takes a link into a namespace, and sets it up there with an address.
func move(t testing.TB, name string, ns netns.NsHandle, cidr string) {
	t.Helper()
	must(t, netlink.LinkSetNsFd(nettest.Link(t, name), int(ns)))
	nettest.Within(t, ns, func() {
		nettest.Address(t, name, cidr)
		must(t, netlink.LinkSetUp(nettest.Link(t, name)))
	})
}

// dnsmasq runs a DHCP server in the namespace of the calling thread until the
// test ends, and returns when it serves.
func dnsmasq(t testing.TB, args ...string) {
	t.Helper()
	exe, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Fatalf("%v (Debian package dnsmasq-base)", err)
	}
	cmd := exec.Command(exe, append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-facility=-", "--log-dhcp", "--user=root",
		"--pid-file", "--no-ping", "--dhcp-authoritative", "--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases"),
	}, args...)...)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			select {
			case lines <- s.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	deadline := time.After(patience)
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatal("dnsmasq ended")
			}
			if strings.Contains(line, "DHCP, ") {
				return
			}
		case <-deadline:
			t.Fatal("dnsmasq does not start")
		}
	}
}

// board plays firmware on a link: raw frames, no IP stack. What it sends is not lost on its way.
type board struct {
	conn  *socket.Conn
	index int
	mac   device.MAC
}

func newBoard(t testing.TB, name string) *board {
	t.Helper()
	nettest.Settled(t)
	l := nettest.Link(t, name)
	c, err := dhcplink.Listen(l.Attrs().Index)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &board{conn: c, index: l.Attrs().Index, mac: device.MAC(l.Attrs().HardwareAddr)}
}

func (b *board) send(t testing.TB, payload []byte) {
	t.Helper()
	b.sendFrame(t, discoverFrame(b.mac, payload))
}

// sendTagged sends as from a VLAN.
func (b *board) sendTagged(t testing.TB, payload []byte, vlan byte) {
	t.Helper()
	b.sendFrame(t, slices.Insert(discoverFrame(b.mac, payload), 12, 0x81, 0, 0, vlan))
}

func (b *board) sendFrame(t testing.TB, frame []byte) {
	t.Helper()
	to := &unix.SockaddrLinklayer{Ifindex: b.index, Halen: 6}
	must(t, b.conn.Sendto(t.Context(), frame, 0, to))
}

// heard is a server's message as a board receives it.
type heard struct {
	frame []byte
	dhcplink.Datagram
	msg *dhcpv4.DHCPv4
}

// next is the next message of a server; ok is false when ctx ends first.
func (b *board) next(ctx context.Context, t testing.TB) (heard, bool) {
	t.Helper()
	buf := make([]byte, dhcplink.MaxFrame)
	for {
		n, from, err := b.conn.Recvfrom(ctx, buf, 0)
		if err != nil && ctx.Err() != nil {
			return heard{}, false
		}
		must(t, err)
		frame := append([]byte(nil), buf[:n]...)
		d, err := dhcplink.ParseFrame(frame)
		if err != nil || from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		m, err := dhcpv4.FromBytes(d.Payload)
		must(t, err)
		if m.OpCode == dhcpv4.OpcodeBootReply {
			return heard{frame, d, m}, true
		}
	}
}

// ask sends a DISCOVER until every one of the servers has answered, and gives
// the first answer of each. An answer of anybody else fails the test.
func (b *board) ask(t testing.TB, payload []byte, servers ...string) map[string]heard {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := map[string]heard{}
	for ctx.Err() == nil {
		b.send(t, payload)
		try, stop := context.WithTimeout(ctx, 2*time.Second)
		for len(got) < len(servers) {
			h, ok := b.next(try, t)
			if !ok {
				break
			}
			if _, again := got[h.Src.Addr().String()]; !again {
				got[h.Src.Addr().String()] = h
			}
		}
		stop()
		if len(got) == len(servers) {
			break
		}
	}
	for _, s := range servers {
		if _, ok := got[s]; !ok {
			t.Fatalf("no answer of %s; answers: %v", s, got)
		}
	}
	return got
}

// running is a Server under test.
type running struct {
	events chan pidhcp.Event
	stop   func()
}

// run starts a server and returns when it is ready.
func run(t testing.TB, s Server) *running {
	t.Helper()
	r := &running{events: make(chan pidhcp.Event, 4096)}
	ready := make(chan struct{})
	s.Ready = func() { close(ready) }
	s.Observe = func(e pidhcp.Event) { r.events <- e }
	if s.Decider == nil {
		s.Decider = deciderFunc(always)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("Run: %v", err)
	}
	return r
}

// wait is the next event that fits.
func (r *running) wait(t testing.TB, what string, fits func(pidhcp.Event) bool) pidhcp.Event {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-r.events:
			if fits(e) {
				return e
			}
		case <-deadline:
			t.Fatalf("no event: %s", what)
		}
	}
}

// checksummed fails the test if a frame's UDP checksum is absent or wrong.
func checksummed(t testing.TB, frame []byte) {
	t.Helper()
	udp := frame[34 : 34+int(frame[38])<<8+int(frame[39])]
	pseudo := append(append([]byte(nil), frame[26:34]...), 0, 17, frame[38], frame[39])
	if udp[6] == 0 && udp[7] == 0 || sum(pseudo, udp) != 0xffff {
		t.Errorf("UDP checksum %x is wrong", udp[6:8])
	}
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// sum adds pieces of even length, but for the last, to a one's complement sum.
func sum(pieces ...[]byte) uint16 {
	var s uint32
	for _, b := range pieces {
		for i, x := range b {
			s += uint32(x) << (8 * (1 - i&1))
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

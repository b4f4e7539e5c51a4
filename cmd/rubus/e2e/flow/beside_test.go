package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"rubus/boot/fakepi/child"
	"rubus/boot/fakepi/nic"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/config/device"
)

// answers is what a client asked and what servers said.
type answers struct {
	asked  int
	class  string
	leased int // with an address: the DHCP server's
	ours   int // without one: a boot server's
}

// ear hears the DHCP messages on the site's bridge.
type ear struct {
	mu  sync.Mutex
	who map[string]*answers // by MAC and, for what a test sends, transaction
}

// listen begins to hear; it ends with the test.
func (s *site) listen() *ear {
	s.t.Helper()
	e := &ear{who: map[string]*answers{}}
	var raw *nic.Raw
	must(s.t, s.host.do(func() (err error) {
		raw, err = nic.OpenRaw(bridge)
		return err
	}))
	over := make(chan struct{})
	go func() {
		defer close(over)
		for b := make([]byte, 4096); ; {
			n, err := raw.ReadFrame(b)
			if err != nil {
				return
			}
			e.hear(b[:n])
		}
	}()
	s.t.Cleanup(func() {
		raw.Close()
		<-over
	})
	return e
}

func (e *ear) hear(frame []byte) {
	const eth = 14
	if len(frame) < eth+20 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[eth+9] != 17 {
		return
	}
	udp := frame[eth:][min(len(frame)-eth, int(frame[eth]&15)*4):]
	if len(udp) < 8 {
		return
	}
	m, err := dhcpv4.FromBytes(udp[8:])
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, key := range []string{m.ClientHWAddr.String(), m.ClientHWAddr.String() + m.TransactionID.String()} {
		a := e.who[key]
		if a == nil {
			a = &answers{}
			e.who[key] = a
		}
		switch {
		case m.OpCode == dhcpv4.OpcodeBootRequest:
			a.asked++
			a.class = m.ClassIdentifier()
		case m.YourIPAddr.IsUnspecified() && m.MessageType() != dhcpv4.MessageTypeNak:
			a.ours++
		default:
			a.leased++
		}
	}
}

func (e *ear) of(key string) answers {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.who[key]; a != nil {
		return *a
	}
	return answers{}
}

// On one host with dnsmasq, rubus answers boards and nobody else: not iPXE,
// whose vendor class is a Pi's, with a known board's MAC; not U-Boot.
func TestBesideDnsmasq(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useTiny()
	s.dnsmasq(s.host, bridge, onePool)
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.serve()
	ear := s.listen()

	t.Run("iPXE", func(t *testing.T) {
		s.ipxe(t, macA)
		harness.Until(t, 3*time.Minute, "iPXE gets an address", func() error {
			if a := ear.of(macA); a.asked < 2 || a.leased < 2 {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
		a := ear.of(macA)
		if a.class != "PXEClient:Arch:00000:UNDI:002001" {
			t.Errorf("iPXE has the vendor class %q: this shows nothing", a.class)
		}
		if a.ours != 0 {
			t.Errorf("iPXE got %d answers of rubus", a.ours)
		}
	})
	for i, c := range strangers() {
		t.Run(c.name, func(t *testing.T) {
			xid := dhcpv4.TransactionID{0xfe, 0, 0, byte(i)}
			send := s.discover(t, xid, c.options)
			key := macB + xid.String()
			harness.Until(t, 20*time.Second, "dnsmasq answers", func() error {
				send()
				if a := ear.of(key); a.leased == 0 {
					return fmt.Errorf("%+v", a)
				}
				return nil
			})
			if a := ear.of(key); a.ours != 0 {
				t.Errorf("rubus answered, too")
			}
		})
	}
	// The daemon answers in the order in which it is asked: had it answered one
	// of them late, it would be seen now.
	for _, b := range []*board{s.newBoard("3b", serialA, macA), s.newBoard("4b", serialB, macB)} {
		before := ear.of(b.mac.String())
		b.fetch()
		if a := ear.of(b.mac.String()); a.ours == before.ours || a.leased == before.leased {
			t.Errorf("board %s: %+v, before %+v: want answers of both", b.id, a, before)
		}
	}
	for i := range strangers() {
		if a := ear.of(macB + dhcpv4.TransactionID{0xfe, 0, 0, byte(i)}.String()); a.ours != 0 {
			t.Errorf("%s was answered by rubus", strangers()[i].name)
		}
	}
	// With a card of Raspberry Pi's one may be a board whose identity nobody
	// knows: it is listed, and no more.
	for _, u := range s.status().Unknown {
		if u.MAC.String() != macB || !u.Serial.IsZero() {
			t.Errorf("the status lists as an unknown board what is none: %+v", u)
		}
	}
}

// ipxe starts a PC that boots from the network.
func (s *site) ipxe(t *testing.T, mac string) {
	t.Helper()
	var tap *nic.Tap
	must(t, s.host.do(func() (err error) {
		tap, err = nic.OpenTap(bridge)
		return err
	}))
	log, err := os.Create(filepath.Join(s.dir, "ipxe.log"))
	must(t, err)
	defer log.Close()
	cmd := s.host.command(context.Background(), "qemu-system-x86_64", "-M", "pc", "-m", "64", "-nodefaults", "-display", "none",
		"-no-reboot", "-netdev", "tap,id=n0,fd=3", "-device", "e1000,netdev=n0,mac="+mac, "-boot", "n", "-serial", "none", "-monitor", "none")
	cmd.ExtraFiles = []*os.File{tap.File()}
	cmd.Stdout, cmd.Stderr = log, log
	p, err := child.Start(cmd)
	must(t, err)
	must(t, tap.Close())
	t.Cleanup(func() {
		p.Stop(5 * time.Second)
		if b, _ := os.ReadFile(log.Name()); t.Failed() && len(b) > 0 {
			t.Logf("QEMU said: %s", b)
		}
	})
}

// stranger is a network boot client that is no Pi.
type stranger struct {
	name    string
	options []dhcpv4.Option
}

func strangers() []stranger {
	pi := "PXEClient:Arch:00000:UNDI:002001"
	option := func(code uint8, b ...byte) dhcpv4.Option {
		return dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), b)
	}
	class := func(s string) dhcpv4.Option { return dhcpv4.OptClassIdentifier(s) }
	uuid := append([]byte{0}, []byte{0x4c, 0x4c, 0x45, 0x44, 0, 0x31, 0x10, 0x56, 0x80, 0x57, 0xb8, 0xc0, 0x4f, 0x4d, 0x33, 0x32}...)
	itsPi := append([]byte{0}, bytes.Repeat([]byte{0x02, 0x00, 0xb0, 0xb8}, 4)...)
	return []stranger{
		{"a PC's PXE ROM", []dhcpv4.Option{class(pi), option(93, 0, 0), option(94, 1, 2, 1), option(97, uuid...)}},
		{"PXE without an identity", []dhcpv4.Option{class(pi), option(93, 0, 0), option(94, 1, 2, 1)}},
		{"iPXE with a Pi's identity", []dhcpv4.Option{class(pi), option(77, []byte("iPXE")...), option(93, 0, 0), option(97, itsPi...)}},
		{"U-Boot", []dhcpv4.Option{class("U-Boot.armv8"), option(93, 0, 22), option(97, make([]byte, 17)...)}},
		{"UEFI", []dhcpv4.Option{class("PXEClient:Arch:00011:UNDI:003000"), option(93, 0, 11), option(94, 1, 3, 0), option(97, uuid...)}},
		{"an ordinary client", []dhcpv4.Option{class("Linux ipconfig")}},
	}
}

// discover gives what sends a DISCOVER with the MAC of board B: again and
// again, as clients do, since a bridge drops what a new port sends too early.
func (s *site) discover(t *testing.T, xid dhcpv4.TransactionID, options []dhcpv4.Option) (send func()) {
	t.Helper()
	mac, err := device.ParseMAC(macB)
	must(t, err)
	m, err := dhcpv4.NewDiscovery(mac[:], dhcpv4.WithTransactionID(xid), dhcpv4.WithBroadcast(true))
	must(t, err)
	for _, o := range options {
		m.UpdateOption(o)
	}
	var tap *nic.Tap
	must(t, s.host.do(func() (err error) {
		tap, err = nic.OpenTap(bridge)
		return err
	}))
	t.Cleanup(func() { tap.Close() })
	stack := nic.NewStack(tap, mac)
	return func() {
		must(t, stack.Send(t.Context(), 68, netip.MustParseAddrPort("255.255.255.255:67"), m.ToBytes()))
	}
}

// hold listens on a port of an address of the site's host until the test ends.
func (s *site) hold(t *testing.T, network, addr string, port int) {
	t.Helper()
	c := s.listenAt(addr, network, port)
	t.Cleanup(func() { c.Close() })
}

// listenAt listens on a port of an address that the site's host has, or is to
// get (IP_FREEBIND).
func (s *site) listenAt(addr, network string, port int) (c io.Closer) {
	s.t.Helper()
	at := fmt.Sprintf("%s:%d", addr, port)
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		}), err)
	}}
	must(s.t, s.host.do(func() (err error) {
		if network == "udp" {
			c, err = lc.ListenPacket(s.t.Context(), "udp4", at)
		} else {
			c, err = lc.Listen(s.t.Context(), "tcp4", at)
		}
		return err
	}))
	return c
}

// With an address of its own rubus works beside another NFS server, port mapper
// and TFTP server on the same host.
func TestBesideOtherServers(t *testing.T) {
	t.Parallel()
	const other = "10.77.0.3"
	s := newSite(t)
	s.useTiny()
	s.host.run(t, "ip", "addr", "add", other+"/24", "dev", bridge)
	for _, port := range []int{111, 2049, 20048} {
		s.hold(t, "tcp", other, port)
	}
	for _, port := range []int{111, 2049, 20048, 69} {
		s.hold(t, "udp", other, port)
	}
	s.router(onePool)
	s.write("rubus.yaml", "listen: ["+hostAddr+"]\n")
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	d := s.serve()
	a := s.newBoard("3b", serialA, macA)
	res := a.boot("10.77.0.20")
	if res.Server.String() != hostAddr || !strings.Contains(res.Cmdline, "nfsroot="+hostAddr+":") {
		t.Errorf("the board boots from %s with %q", res.Server, res.Cmdline)
	}
	must(t, a.write("etc/mine", "A"))
	must(t, a.has("etc/mine", "A"))
	d.Stop()

	// Without one, it says who is in the way.
	must(t, os.Remove(filepath.Join(s.dir, "rubus.yaml")))
	s.refuses(1, []string{"is held by " + ownName(), "rubus: hint: ", "listen"}, "serve")
}

// A port of rubus' own address that is in use is an error that names the holder.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		network string
		port    int
	}{{"tcp", 2049}, {"tcp", 111}, {"udp", 111}, {"tcp", 20048}, {"udp", 20048}, {"udp", 69}} {
		t.Run(fmt.Sprintf("%d-%s", c.port, c.network), func(t *testing.T) {
			s := newSite(t)
			s.useTiny()
			s.devices(deviceLines("serial: " + serialA))
			s.write("rubus.yaml", "listen: ["+hostAddr+"]\n")
			s.hold(t, c.network, hostAddr, c.port)
			s.refuses(1, []string{
				fmt.Sprintf("port %d/%s on %s is held by %s (pid %d)", c.port, c.network, hostAddr, ownName(), os.Getpid()),
				"rubus: hint: ", "listen",
			}, "serve")
		})
	}
}

// ownName is the name of this process, as the kernel keeps it.
func ownName() string {
	b, _ := os.ReadFile("/proc/self/comm") // always there
	return strings.TrimSpace(string(b))
}

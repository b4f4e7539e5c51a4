package fakepi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/fakepi/nic"
	"rubus/config/device"
)

// lan is a scripted network of one machine: an address server, a boot server
// and TFTP, all at 10.0.0.1, on the other end of a cable.
type lan struct {
	t     *testing.T
	stack *nic.Stack
	files map[string][]byte
	// offers are sent for each DISCOVER, in order; see offerOf.
	offers []offer
	nak    bool
	// naks are the first REQUESTs that are answered NAK.
	naks int
	// lose says which of the frames sent to the board are lost, counted from 0.
	lose func(n int) bool
	// noOptions makes a TFTP server of 1981; silent names files that get no answer.
	noOptions bool
	silent    map[string]bool

	sent      int
	discovers [][]byte
	requests  [][]byte
	rrqs      []string // names with their options
	ports     []uint16
	transfers map[uint16]*served
}

// offer is one server's answer.
type offer struct {
	from                netip.Addr
	yiaddr, siaddr      netip.Addr
	option43, option66  string
	withoutServerOption bool
	giaddr              netip.Addr
	xid                 uint32 // other than the board's when not 0
}

type served struct {
	data  []byte
	block int
	last  []byte
	n     int
}

var (
	lanServer = netip.MustParseAddr("10.0.0.1")
	lanRouter = netip.MustParseAddr("10.0.0.254")
	lanBoard  = netip.MustParseAddr("10.0.0.17")
)

// menu is option 43 as dnsmasq and rubus send it.
func menu(text string) string {
	return "\x06\x01\x03\x0a\x04\x00PXE\x09" + string([]byte{byte(len(text) + 3), 0, 0, byte(len(text))}) + text + "\xff"
}

// both are the offers of an ordinary site: the router's and rubus'.
func both() []offer {
	return []offer{
		{from: lanRouter, yiaddr: lanBoard, siaddr: lanRouter},
		{from: lanServer, siaddr: lanServer, option43: menu(bootText + "   "), option66: "10.0.0.1"},
	}
}

// play runs a board's firmware against the lan.
func play(t *testing.T, l *lan, model string) (*Result, error) {
	t.Helper()
	return playSetup(t, l, Setup{Model: model})
}

// playSetup is play with a serial.
func playSetup(t *testing.T, l *lan, s Setup) (*Result, error) {
	t.Helper()
	ctx, boardEnd, stop := l.start(t)
	defer stop()
	var err error
	if s.Serial, err = device.ParseSerial("b66c4c16"); err != nil {
		t.Fatal(err)
	}
	b, err := s.Board()
	if err != nil {
		t.Fatal(err)
	}
	return Run(ctx, b, Options{Link: boardEnd, Rand: rand.New(rand.NewPCG(1, 2))})
}

// start starts the lan and gives the board's end of the cable.
func (l *lan) start(t *testing.T) (ctx context.Context, boardEnd nic.Link, stop func()) {
	boardEnd, serverEnd := nic.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	l.t, l.stack, l.transfers = t, nic.NewStack(serverEnd, device.MAC{2, 0, 0, 0, 0, 1}), map[uint16]*served{}
	l.stack.SetAddr(netip.PrefixFrom(lanServer, 24), netip.Addr{})
	done := make(chan struct{})
	go func() { defer close(done); l.serve(ctx) }()
	return ctx, boardEnd, func() { cancel(); boardEnd.Close(); <-done }
}

func (l *lan) serve(ctx context.Context) {
	for {
		d, err := l.stack.Receive(ctx, time.Now().Add(time.Second))
		switch {
		case errors.Is(err, nic.ErrTimeout):
			// What was lost is sent again, a second later.
			for port, s := range l.transfers {
				l.send(ctx, port, s.last)
			}
		case err != nil:
			return
		case d.Dst.Port() == 67:
			l.dhcp(ctx, d.Payload)
		default:
			l.tftp(ctx, d)
		}
	}
}

func (l *lan) dhcp(ctx context.Context, b []byte) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		l.t.Errorf("the board sent no DHCP: %v", err)
		return
	}
	packet := append([]byte(nil), b...)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		l.discovers = append(l.discovers, packet)
		for _, o := range l.offers {
			l.reply(ctx, m, o, dhcpv4.MessageTypeOffer)
		}
	case dhcpv4.MessageTypeRequest:
		l.requests = append(l.requests, packet)
		kind := dhcpv4.MessageTypeAck
		if l.naks--; l.nak || l.naks >= 0 {
			kind = dhcpv4.MessageTypeNak
		}
		for _, o := range l.offers {
			if o.from.String() == m.ServerIdentifier().String() {
				l.reply(ctx, m, o, kind)
			}
		}
	}
}

func (l *lan) reply(ctx context.Context, m *dhcpv4.DHCPv4, o offer, kind dhcpv4.MessageType) {
	r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind))
	if err != nil {
		l.t.Error(err)
		return
	}
	if o.xid != 0 {
		binary.BigEndian.PutUint32(r.TransactionID[:], o.xid)
	}
	r.YourIPAddr, r.ServerIPAddr = ip(o.yiaddr), ip(o.siaddr)
	if o.giaddr.IsValid() {
		r.GatewayIPAddr = ip(o.giaddr)
	}
	if !o.withoutServerOption {
		r.UpdateOption(dhcpv4.OptServerIdentifier(ip(o.from)))
	}
	if o.yiaddr.IsValid() {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionSubnetMask, []byte{255, 255, 255, 0}))
		r.UpdateOption(dhcpv4.OptRouter(ip(lanRouter)))
	}
	if o.option43 != "" {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte(o.option43)))
	}
	if o.option66 != "" {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionTFTPServerName, []byte(o.option66)))
	}
	// Each server speaks from its own address.
	l.stack.SetAddr(netip.PrefixFrom(o.from, 24), netip.Addr{})
	all := netip.MustParseAddrPort("255.255.255.255:68")
	if err := l.stack.Send(ctx, 67, all, r.ToBytes()); err != nil && ctx.Err() == nil {
		l.t.Error(err)
	}
	l.stack.SetAddr(netip.PrefixFrom(lanServer, 24), netip.Addr{})
}

func ip(a netip.Addr) []byte {
	if !a.IsValid() {
		return []byte{0, 0, 0, 0}
	}
	return a.AsSlice()
}

func (l *lan) tftp(ctx context.Context, d nic.Datagram) {
	port, b := d.Src.Port(), d.Payload
	switch op := binary.BigEndian.Uint16(b); {
	case op == opRRQ && d.Dst.Port() == 69:
		fields := strings.Split(strings.TrimRight(string(b[2:]), "\x00"), "\x00")
		if l.transfers[port] == nil {
			l.rrqs, l.ports = append(l.rrqs, strings.Join(fields, " ")), append(l.ports, port)
		}
		l.open(ctx, port, fields)
	case op == opERROR:
		delete(l.transfers, port)
	case op == opACK && l.transfers[port] != nil:
		l.next(ctx, port, binary.BigEndian.Uint16(b[2:]))
	}
}

func (l *lan) open(ctx context.Context, port uint16, fields []string) {
	name := fields[0]
	if l.silent[name] {
		return
	}
	data, ok := l.files[name]
	if !ok {
		l.send(ctx, port, tftpError(1, "File not found"))
		return
	}
	s := &served{data: data, block: 512}
	l.transfers[port] = s
	if len(fields) == 2 || l.noOptions {
		l.next(ctx, port, 0)
		return
	}
	s.last = []byte{0, opOACK}
	for i := 2; i+1 < len(fields); i += 2 {
		value := fields[i+1]
		if fields[i] == "tsize" {
			value = strconv.Itoa(len(data))
		} else {
			s.block, _ = strconv.Atoi(value)
		}
		s.last = append(s.last, fields[i]+"\x00"+value+"\x00"...)
	}
	l.send(ctx, port, s.last)
}

func (l *lan) next(ctx context.Context, port, acked uint16) {
	s := l.transfers[port]
	if acked != uint16(s.n) {
		return
	}
	if s.n > 0 && len(s.last) < 4+s.block {
		delete(l.transfers, port)
		return
	}
	from := min(s.n*s.block, len(s.data))
	s.n++
	s.last = binary.BigEndian.AppendUint16([]byte{0, opDATA}, uint16(s.n))
	s.last = append(s.last, s.data[from:min(from+s.block, len(s.data))]...)
	l.send(ctx, port, s.last)
}

// send sends from the transfer's own port, or loses the packet.
func (l *lan) send(ctx context.Context, port uint16, packet []byte) {
	l.sent++
	if l.lose != nil && l.lose(l.sent-1) {
		return
	}
	err := l.stack.Send(ctx, 10000+port%10000, netip.AddrPortFrom(lanBoard, port), packet)
	if err != nil && ctx.Err() == nil {
		l.t.Errorf("port %d: %v", port, err)
	}
}

// debian is what Debian's raspi-firmware leaves in /boot/firmware.
func debian() map[string][]byte {
	blob := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7)
		}
		return b
	}
	files := map[string][]byte{
		"bootcode.bin": blob(52460), "start.elf": blob(9000), "fixup.dat": blob(512),
		"start4.elf": blob(20000), "fixup4.dat": blob(1024), "vmlinuz-6.1": blob(100_000), "initrd.img-6.1": blob(30_000),
		"bcm2711-rpi-400.dtb": blob(27001), "bcm2711-rpi-cm4-io.dtb": blob(27002), "bcm2711-rpi-cm4.dtb": blob(27002),
		"bcm2837-rpi-3-b.dtb": blob(15000), "bcm2837-rpi-3-b-plus.dtb": blob(15001), "bcm2711-rpi-4-b.dtb": blob(27000),
		"config.txt":  []byte("arm_64bit=1\nenable_uart=1\nupstream_kernel=1\nkernel=vmlinuz-6.1\ninitramfs initrd.img-6.1\n"),
		"cmdline.txt": []byte("console=ttyS1,115200 root=/dev/nfs nfsroot=10.0.0.1:/b66c4c16,vers=3 ip=dhcp rw\n"),
	}
	return files
}

// below puts all files but bootcode.bin under a prefix.
func below(prefix string, files map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, data := range files {
		if name != "bootcode.bin" {
			name = prefix + name
		}
		out[name] = data
	}
	return out
}

// with is files with changes; nil takes a file away.
func with(files map[string][]byte, changes map[string]string) map[string][]byte {
	for name, text := range changes {
		if text == "" {
			delete(files, name)
		} else {
			files[name] = []byte(text)
		}
	}
	return files
}

func trace(events []Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%8.1f %-12s %-8s %-8s %s %d %s\n", ms(e.At), e.Stage, e.Kind, e.Outcome, e.File, e.Size, e.Text)
	}
	return b.String()
}

// mapFiles serves files as a plan wants them.
func mapFiles(files map[string][]byte) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if data, ok := files[name]; ok {
			return data, nil
		}
		return nil, fs.ErrNotExist
	}
}

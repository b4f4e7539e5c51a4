package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"rubus/boot/fakepi"
)

// DHCPRole is what rubus does about addresses on an interface.
type DHCPRole int

// The roles.
const (
	// Beside: another server gives out addresses (modes proxy and off).
	Beside DHCPRole = iota
	// Alone: rubus does (mode server). Forced: also when another server answers.
	Alone
	Forced
)

// Survey turns what boards would hear on an interface into findings. Own are
// this machine's addresses; running says that rubus runs here already, which
// answers boards of devices.yaml and none that is made up.
func Survey(iface string, heard []fakepi.Heard, own []netip.Addr, role DHCPRole, running bool) []Finding {
	var out []Finding
	var boot, address []string
	note := func(list *[]string, a netip.Addr) {
		if s := a.String(); !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, h := range heard {
		for _, o := range h.Offers {
			if o.Address.IsValid() && (role == Beside || !slices.Contains(own, o.Server)) {
				note(&address, o.Server)
			}
			if (o.Boot || o.TFTP.IsValid() || o.TFTPText != "") && !slices.Contains(own, o.Source) {
				note(&boot, o.Source)
			}
		}
	}
	out = append(out, addresses(iface, address, role))
	for _, h := range heard {
		if h.Server.IsValid() && !h.Weak && !slices.Contains(own, h.Server) {
			out = append(out, Finding{
				Check: "boot servers", Level: Failure,
				What: fmt.Sprintf("a %s on %s would fetch its files from %s (%s)", h.Model.Title, iface, h.Server, h.Why),
				Why:  "that is not this machine", Do: foreign(h),
			})
		}
	}
	out = append(out, followed(iface, heard, own, running)...)
	if len(boot) == 0 { // most routers name themselves in siaddr: that is no offer
		out = append(out, Finding{Check: "boot servers", Level: OK, What: "nobody else offers to boot a Pi on " + iface})
	}
	return out
}

// addresses judges who gives out addresses, beside rubus itself where it does.
func addresses(iface string, servers []string, role DHCPRole) Finding {
	list := strings.Join(servers, ", ")
	switch {
	case role != Beside && len(servers) == 0:
		return Finding{Check: "dhcp", Level: OK, What: fmt.Sprintf("no other DHCP server answers on %s: rubus gives out addresses", iface)}
	case role == Alone:
		return Finding{
			Check: "dhcp", Level: Failure, What: fmt.Sprintf("another DHCP server answers on %s: %s", iface, list),
			Why: "rubus.yaml has rubus give out addresses, and it gives out none while it hears another server",
			Do:  "switch that server off; or use its addresses: \"dhcp: {mode: proxy}\" in rubus.yaml",
		}
	case role == Forced:
		return Finding{
			Check: "dhcp", Level: Warning, What: fmt.Sprintf("another DHCP server answers on %s: %s", iface, list),
			Why: "boards take the address of whichever is first", Do: "leave one of them on; \"force\" in rubus.yaml has rubus go on",
		}
	case len(servers) == 0:
		return Finding{
			Check: "dhcp", Level: Failure, What: "no DHCP server answers on " + iface, Why: "boards get no address; rubus gives none",
			Do: "connect the site's DHCP server (the router) to this network, or have rubus give out addresses: \"dhcp: {mode: server}\" in rubus.yaml",
		}
	case len(servers) > 1:
		return Finding{
			Check: "dhcp", Level: Warning, What: fmt.Sprintf("%d DHCP servers answer on %s: %s", len(servers), iface, list),
			Why: "boards take the address of whichever is first", Do: "leave one of them on",
		}
	}
	return Finding{Check: "dhcp", Level: OK, What: fmt.Sprintf("%s gives out addresses on %s", list, iface)}
}

// followed says where each kind of board would get its files, those that would
// come here or nowhere: one finding for all that do alike.
func followed(iface string, heard []fakepi.Heard, own []netip.Addr, running bool) []Finding {
	known := ""
	if running {
		known = ", unless devices.yaml names them: those are answered by the rubus that runs here"
	}
	var order []string
	models := map[string][]string{}
	for _, h := range heard {
		where := "find no server for their files" + known
		if !running {
			where += " yet"
		}
		switch {
		case h.Server.IsValid() && slices.Contains(own, h.Server):
			where = fmt.Sprintf("would fetch their files from this machine, %s (%s)", h.Server, h.Why)
		case h.Server.IsValid() && !h.Weak:
			continue // a failure of its own
		case h.Weak:
			where = fmt.Sprintf("would try %s (%s), as nobody names a server", h.Server, h.Why) + known
		}
		if models[where] == nil {
			order = append(order, where)
		}
		models[where] = append(models[where], h.Model.Name)
	}
	var out []Finding
	for _, where := range order {
		out = append(out, Finding{Check: "boot servers", Level: OK, What: fmt.Sprintf("on %s: %s %s", iface, strings.Join(models[where], ", "), where)})
	}
	return out
}

// Range looks whether the addresses to give out are in the network of one of the
// interfaces' addresses.
func Range(first, last netip.Addr, at []netip.Prefix) Finding {
	for _, p := range at {
		if p.Contains(first) && p.Contains(last) {
			return Finding{Check: "addresses", Level: OK, What: fmt.Sprintf("%s to %s are in the network %s", first, last, p.Masked())}
		}
	}
	return Finding{
		Check: "addresses", Level: Failure, What: fmt.Sprintf("no interface has an address in the network of %s to %s", first, last),
		Why: "rubus gives out addresses on the interface whose network they are in", Do: "give the boards' interface an address there, or change \"range\" of rubus.yaml",
	}
}

// foreign says how to stop another server from taking a board.
func foreign(h fakepi.Heard) string {
	for _, o := range h.Offers {
		if o.TFTP == h.Server && o.Address.IsValid() {
			return fmt.Sprintf("remove option 66 (\"TFTP server name\", \"next server\") at the DHCP server %s, or set it to this machine", o.Server)
		}
	}
	return "switch off network boot at that server, or do without rubus there"
}

// bpduGroup is where bridges say who they are (IEEE 802.1D).
var bpduGroup = net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0}

// SpanningTree listens on an interface for as long as wait and says what the
// switch port's spanning tree does to boards.
func SpanningTree(ctx context.Context, iface string, wait time.Duration) (Finding, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return Finding{}, err
	}
	const llc = 0x0004 // ETH_P_802_2
	conn, err := packet.Listen(ifi, packet.Raw, llc, nil)
	if err != nil {
		return Finding{}, fmt.Errorf("listening on %s (needs root): %w", iface, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	mreq := &unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
	copy(mreq.Address[:], bpduGroup)
	if err := join(conn, mreq); err != nil {
		return Finding{}, fmt.Errorf("listening on %s: %w", iface, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return Finding{}, err
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return Finding{Check: "spanning tree", Level: OK, What: "no switch speaks spanning tree on " + iface}, ctx.Err()
		}
		if err != nil {
			return Finding{}, err
		}
		if b, ok := parseBPDU(buf[:n]); ok {
			return bpduFinding(iface, b), nil
		}
	}
}

func join(conn *packet.Conn, mreq *unix.PacketMreq) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, mreq)
	})
	return errors.Join(err, set)
}

// bpdu is what a switch says of its spanning tree.
type bpdu struct {
	// bridge is the switch: its priority and its address.
	bridge string
	delay  time.Duration // forward delay
}

// parseBPDU reads a configuration BPDU (IEEE 802.1D, 9.3.1) or one of the rapid
// protocol (9.3.3).
func parseBPDU(frame []byte) (b bpdu, ok bool) {
	const header = 14 + 3 // Ethernet with a length, and LLC
	if len(frame) < header+35 || string(frame[:6]) != string(bpduGroup) || frame[14] != 0x42 || frame[15] != 0x42 {
		return bpdu{}, false
	}
	p := frame[header:]
	if p[0] != 0 || p[1] != 0 || (p[3] != 0 && p[3] != 2) {
		return bpdu{}, false
	}
	return bpdu{
		bridge: fmt.Sprintf("%x.%s", p[17:19], net.HardwareAddr(p[19:25])),
		delay:  time.Duration(binary.BigEndian.Uint16(p[33:])) * time.Second / 256,
	}, true
}

func bpduFinding(iface string, b bpdu) Finding {
	return Finding{
		Check: "spanning tree", Level: Warning,
		What: fmt.Sprintf("the switch %s speaks spanning tree on %s, with a delay of %s", b.bridge, iface, b.delay.Round(time.Second)),
		Why: fmt.Sprintf("a port that comes up is deaf for up to %s; a Pi 3 gives up after 25 s, a Pi 4 or 5 after 45 s",
			(2 * b.delay).Round(time.Second)),
		Do: "make the boards' ports edge ports (portfast)",
	}
}

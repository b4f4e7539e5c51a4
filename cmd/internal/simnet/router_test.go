package simnet

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/fakepi/nic"
	"rubus/config/device"
)

var cardA, cardB = device.MAC{2, 0, 0, 0, 0, 0xa}, device.MAC{2, 0, 0, 0, 0, 0xb}

// site starts a router on a cable and returns a client's end of it.
func site(t *testing.T, mac device.MAC) *nic.Stack {
	client, server := nic.Pipe()
	r := &Router{
		Link: server, Addr: netip.MustParsePrefix("10.0.0.254/24"),
		First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.101"), Lease: 120 * time.Second,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return nic.NewStack(client, mac)
}

// ask sends a packet and waits for the reply; nil: none came.
func ask(t *testing.T, s *nic.Stack, mac device.MAC, to string, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append(mods, dhcpv4.WithHwAddr(mac.HardwareAddr()))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), 68, netip.MustParseAddrPort(to), m.ToBytes()); err != nil {
		t.Fatal(err)
	}
	d, err := s.Receive(t.Context(), time.Now().Add(time.Second))
	if errors.Is(err, nic.ErrTimeout) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := dhcpv4.FromBytes(d.Payload)
	if err != nil || r.TransactionID != m.TransactionID || !bytes.Equal(r.ClientHWAddr, mac.HardwareAddr()) {
		t.Fatalf("%v, %v", r, err)
	}
	return r
}

func kind(k dhcpv4.MessageType) dhcpv4.Modifier { return dhcpv4.WithMessageType(k) }

func wants(addr string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(netip.MustParseAddr(addr).AsSlice()))
}

const all = "255.255.255.255:67"

func TestRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := site(t, cardA)
		server := func(a string) dhcpv4.Modifier {
			return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(netip.MustParseAddr(a).AsSlice()))
		}
		offer := ask(t, s, cardA, all, kind(dhcpv4.MessageTypeDiscover))
		if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer || offer.YourIPAddr.String() != "10.0.0.100" ||
			offer.SubnetMask().String() != "ffffff00" || offer.IPAddressLeaseTime(0) != 120*time.Second {
			t.Fatal(offer)
		}
		ack := ask(t, s, cardA, all, kind(dhcpv4.MessageTypeRequest), wants("10.0.0.100"), server("10.0.0.254"))
		if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || ack.YourIPAddr.String() != "10.0.0.100" {
			t.Fatal(ack)
		}
		if r := ask(t, s, cardA, all, kind(dhcpv4.MessageTypeRequest), wants("10.0.0.100"), server("10.0.0.1")); r != nil {
			t.Error("answered for another server", r)
		}
		if r := ask(t, s, cardA, all, kind(dhcpv4.MessageTypeRequest), wants("10.0.0.9")); r == nil || r.MessageType() != dhcpv4.MessageTypeNak {
			t.Error("not refused:", r)
		}
		// Another card gets another address, a third none: there are two.
		if r := ask(t, s, cardB, all, kind(dhcpv4.MessageTypeDiscover)); r == nil || r.YourIPAddr.String() != "10.0.0.101" {
			t.Error(r)
		}
		if r := ask(t, s, device.MAC{2, 0, 0, 0, 0, 0xc}, all, kind(dhcpv4.MessageTypeDiscover)); r != nil {
			t.Error("an address beyond the last:", r)
		}
		// A renewal is unicast both ways.
		s.SetAddr(netip.MustParsePrefix("10.0.0.100/24"), netip.Addr{})
		renew := ask(t, s, cardA, "10.0.0.254:67", kind(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(netip.MustParseAddr("10.0.0.100").AsSlice()))
		if renew == nil || renew.MessageType() != dhcpv4.MessageTypeAck || renew.YourIPAddr.String() != "10.0.0.100" {
			t.Error(renew)
		}
	})
}

func FuzzRouter(f *testing.F) {
	m, err := dhcpv4.New(kind(dhcpv4.MessageTypeDiscover), dhcpv4.WithHwAddr(cardA.HardwareAddr()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &Router{
			Addr: netip.MustParsePrefix("10.0.0.254/24"), First: netip.MustParseAddr("10.0.0.100"),
			Last: netip.MustParseAddr("10.0.0.101"), leases: map[device.MAC]netip.Addr{}, next: netip.MustParseAddr("10.0.0.100"),
		}
		if reply, to := r.answer(b); reply != nil && !to.Is4() {
			t.Fatal(to)
		}
	})
}

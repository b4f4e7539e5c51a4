package nic

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rubus/config/device"
)

// TestSwitchBroadcasts: an answer of DHCP for everybody goes to who asked, and a question
// of ARP to who has the address.
func TestSwitchBroadcasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cable, host := Pipe()
		s := NewSwitch(cable)
		macs := []device.MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}
		boards := []Link{s.Plug(macs[0]), s.Plug(macs[1])}
		hostMAC := device.MAC{2, 0, 0, 0, 0, 9}
		// hears are the boards that were given a frame, once each.
		hears := func(frame []byte) (out []int) {
			t.Helper()
			if err := host.WriteFrame(frame); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			b := make([]byte, MaxFrame)
			for i, l := range boards {
				for {
					_ = l.SetReadDeadline(time.Now().Add(time.Second))
					n, err := l.ReadFrame(b)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
					if err != nil || !slices.Equal(b[:n], frame) {
						t.Fatalf("board %d heard %x, %v", i, b[:n], err)
					}
					out = append(out, i)
				}
			}
			return out
		}
		arp := func(op uint16, sender, target netip.Addr, from, to device.MAC) []byte {
			return appendARP(appendEth(nil, to, from, etherARP), arpPacket{op: op, senderMAC: from, sender: sender, target: target})
		}
		udp := func(port uint16, payload []byte) []byte {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), port)
			return appendUDP(appendEth(nil, broadcast, hostMAC, etherIPv4), netip.MustParseAddrPort("10.0.0.9:67"), to, payload, false)
		}
		offer := make([]byte, 240)
		copy(offer[28:], macs[1][:])
		addr, none := netip.MustParseAddr("10.0.0.2"), netip.IPv4Unspecified()
		who := arp(arpRequest, netip.MustParseAddr("10.0.0.9"), addr, hostMAC, broadcast)
		for _, c := range []struct {
			name  string
			frame []byte
			want  []int
		}{
			{"an offer", udp(68, offer), []int{1}},
			{"an offer to another", udp(68, make([]byte, 240)), nil},
			{"a short one", udp(68, offer[:30]), []int{0, 1}},
			{"another datagram", udp(69, offer), []int{0, 1}},
			{"a question for an address of nobody", who, nil},
			{"one card", arp(arpRequest, none, addr, hostMAC, macs[0]), []int{0}},
			{"half a frame", make([]byte, 10), nil},
		} {
			if got := hears(c.frame); !slices.Equal(got, c.want) {
				t.Errorf("%s: heard by %d, want %d", c.name, got, c.want)
			}
		}
		// A board that asks as nobody (RFC 5227) has not got the address.
		for i, sender := range []netip.Addr{none, addr} {
			if err := boards[1].WriteFrame(arp(arpRequest, sender, addr, macs[1], broadcast)); err != nil {
				t.Fatal(err)
			}
			if got := hears(who); len(got) != i || i == 1 && got[0] != 1 {
				t.Errorf("who has %v, said by %v: heard by %d", addr, sender, got)
			}
		}
		// What was pulled out hears nothing, and has no address.
		if err := boards[1].Close(); err != nil {
			t.Error(err)
		}
		_ = boards[1].SetReadDeadline(time.Time{})
		if _, err := boards[1].ReadFrame(make([]byte, 9)); !errors.Is(err, io.EOF) {
			t.Errorf("a card that is closed: %v", err)
		}
		boards = boards[:1]
		for name, frame := range map[string][]byte{"an offer": udp(68, offer), "who": who} {
			if got := hears(frame); got != nil {
				t.Errorf("%s: heard by %d", name, got)
			}
		}
		host.Close()
		synctest.Wait()
		for name, l := range map[string]Link{"plugged before": boards[0], "and after": s.Plug(macs[1])} {
			_ = l.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := l.ReadFrame(make([]byte, 9)); !errors.Is(err, io.EOF) {
				t.Errorf("the cable is gone, a card %s: %v", name, err)
			}
		}
	})
}

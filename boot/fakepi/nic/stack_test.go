package nic

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"rubus/config/device"
)

var (
	boardMAC  = device.MAC{0xb8, 0x27, 0xeb, 0x12, 0x34, 0x56}
	serverMAC = device.MAC{0x02, 0, 0, 0, 0, 1}
	boardIP   = netip.MustParsePrefix("10.0.0.17/24")
	serverIP  = netip.MustParsePrefix("10.0.0.1/24")
)

// pair makes two stacks on one cable.
func pair(t *testing.T) (board, server *Stack) {
	a, b := Pipe()
	t.Cleanup(func() { a.Close() })
	board, server = NewStack(a, boardMAC), NewStack(b, serverMAC)
	server.SetAddr(serverIP, netip.Addr{})
	return board, server
}

func TestUDPBothWays(t *testing.T) {
	for name, checksum := range map[string]bool{"with checksum": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				board, server := pair(t)
				board.SetAddr(boardIP, netip.Addr{})
				board.Checksum, server.Checksum = checksum, checksum
				go func() {
					d, err := server.Receive(t.Context(), time.Now().Add(time.Second))
					if err != nil || d.SrcMAC != boardMAC {
						t.Errorf("server received %+v, %v", d, err)
						return
					}
					// The answer needs ARP the other way round.
					if err := server.Send(t.Context(), 69, d.Src, []byte("pong")); err != nil {
						t.Error(err)
					}
				}()
				if err := board.Send(t.Context(), 49152, netip.AddrPortFrom(serverIP.Addr(), 69), []byte("ping!")); err != nil {
					t.Fatal(err)
				}
				d, err := board.Receive(t.Context(), time.Now().Add(time.Second))
				if err != nil || string(d.Payload) != "pong" || d.Src.String() != "10.0.0.1:69" || d.Dst.Port() != 49152 {
					t.Fatalf("got %+v, %v", d, err)
				}
			})
		})
	}
}

func TestNoARP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, _ := pair(t)
		board.SetAddr(boardIP, netip.Addr{})
		start := time.Now()
		err := board.Send(t.Context(), 1, netip.MustParseAddrPort("10.0.0.99:69"), nil)
		if !errors.Is(err, ErrNoARP) || time.Since(start) != arpTries*arpWait {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	})
}

func TestGateway(t *testing.T) {
	board, _ := pair(t)
	router := netip.MustParseAddr("10.0.0.254")
	board.SetAddr(boardIP, router)
	for dst, want := range map[string]string{"10.0.0.9": "10.0.0.9", "192.0.2.1": "10.0.0.254"} {
		if got := board.nextHop(netip.MustParseAddr(dst)); got.String() != want {
			t.Errorf("next hop to %s: %s", dst, got)
		}
	}
	board.SetAddr(boardIP, netip.Addr{})
	if got := board.nextHop(netip.MustParseAddr("192.0.2.1")); got.String() != "192.0.2.1" {
		t.Errorf("without a router: %s", got)
	}
}

func TestSilentAnswersNoARP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, server := pair(t)
		board.SetAddr(boardIP, netip.Addr{})
		board.Silent = true
		done := make(chan error)
		go func() {
			done <- server.Send(t.Context(), 1, netip.AddrPortFrom(boardIP.Addr(), 2), nil)
		}()
		if _, err := board.Receive(t.Context(), time.Now().Add(10*time.Second)); !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrNoARP) {
			t.Fatal(err)
		}
	})
}

func TestReceiveCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, _ := pair(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := board.Receive(ctx, time.Now().Add(time.Hour)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

func TestChecksumIsVerified(t *testing.T) {
	src, dst := netip.MustParseAddrPort("10.0.0.1:69"), netip.MustParseAddrPort("10.0.0.2:1")
	p := appendUDP(nil, src, dst, []byte("odd"), true)
	if _, err := parseUDP(p, true); err != nil {
		t.Fatal(err)
	}
	p[len(p)-1] ^= 1
	if _, err := parseUDP(p, true); err == nil {
		t.Fatal("a flipped bit passed")
	}
	if _, err := parseUDP(p, false); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseUDP(f *testing.F) {
	src, dst := netip.MustParseAddrPort("10.0.0.1:69"), netip.MustParseAddrPort("10.0.0.2:1")
	f.Add(appendUDP(nil, src, dst, []byte("data"), true))
	f.Add(appendUDP(nil, src, dst, nil, false))
	f.Add([]byte{0x4f, 0, 0, 20})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseUDP(b, true)
		if err != nil {
			return
		}
		again, err := parseUDP(appendUDP(nil, d.Src, d.Dst, d.Payload, true), true)
		if err != nil || string(again.Payload) != string(d.Payload) || again.Src != d.Src || again.Dst != d.Dst {
			t.Fatalf("%+v came back as %+v, %v", d, again, err)
		}
	})
}

func FuzzParseARP(f *testing.F) {
	f.Add(appendARP(nil, arpPacket{op: arpRequest, senderMAC: boardMAC, sender: boardIP.Addr(), target: serverIP.Addr()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseARP(b)
		if err == nil && string(appendARP(nil, p)) != string(b[:arpLen]) {
			t.Fatalf("%x came back as %x", b, appendARP(nil, p))
		}
	})
}

package dhcpserver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// A rack asks for its addresses while the disk takes its time: all are heard, nobody is
// answered before the disk has his lease, and all are then.
func TestLeasesGoToTheDiskTogether(t *testing.T) {
	const atOnce, boards = 8, 11
	var mu sync.Mutex
	acked := 0
	b := newBench(t, "", func(s *Server) {
		s.Pool.Last = netip.MustParseAddr("10.0.0.250")
		s.Observe = func(e pidhcp.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.What == pidhcp.Acked {
				acked++
			}
		}
	})
	b.handler.saves.slots = make(chan struct{}, atOnce)
	mac := func(i int) device.MAC { return device.MAC{2, 9, 9, 0, 0, byte(i)} }
	offered := make([]string, boards)
	for i := range boards {
		got := b.say(message(t, mac(i), dhcpv4.MessageTypeDiscover))
		if len(got) != 1 {
			t.Fatalf("board %d: %v", i, got)
		}
		offered[i] = got[0].YourIPAddr.String()
	}
	var busy sync.WaitGroup
	b.handler.spawn = func(f func() error) { busy.Go(func() { _ = f() }) }
	saving, disk := make(chan struct{}, boards), make(chan struct{})
	b.handler.save = func(Lease) error {
		saving <- struct{}{}
		<-disk
		return nil
	}
	for i := range atOnce {
		b.Hear(t.Context(), b.out, frame(message(t, mac(i), dhcpv4.MessageTypeRequest, requested(offered[i]), ofServer("10.0.0.1"))), false)
	}
	for range atOnce { // all of them are at the disk
		<-saving
	}
	mu.Lock()
	if acked != 0 {
		t.Errorf("%d are promised an address that the disk does not have", acked)
	}
	mu.Unlock()
	// There are enough at the disk: who comes now waits, and is answered as well.
	busy.Go(func() {
		for i := atOnce; i < boards; i++ {
			b.Hear(t.Context(), b.out, frame(message(t, mac(i), dhcpv4.MessageTypeRequest, requested(offered[i]), ofServer("10.0.0.1"))), false)
		}
	})
	<-saving
	close(disk)
	busy.Wait()
	if acked != boards {
		t.Errorf("%d of %d boards have an address", acked, boards)
	}
}

// What is decided of one address is written in that order, whatever the disk does.
func TestSavesOfOneAddressInTurn(t *testing.T) {
	s := newSaves()
	a, b := netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("10.0.0.11")
	var busy sync.WaitGroup
	spawn := func(f func() error) { busy.Go(func() { _ = f() }) }
	var order []int
	first, begun := make(chan struct{}), make(chan struct{})
	s.do(a, spawn, func() { close(begun); <-first; order = append(order, 0) })
	<-begun
	for i := range 8 {
		s.do(a, spawn, func() { order = append(order, i+1) })
	}
	other := make(chan struct{})
	s.do(b, spawn, func() { close(other) })
	<-other // is not held up
	close(first)
	busy.Wait()
	if !slices.IsSorted(order) || len(order) != 9 {
		t.Errorf("%v", order)
	}
	if len(s.last) != 0 || len(s.slots) != 0 {
		t.Errorf("%d addresses and %d slots are kept", len(s.last), len(s.slots))
	}
}

// A lease that the disk does not take is not promised, and holds up none after it.
func TestSaveFails(t *testing.T) {
	b := newBench(t, "", nil)
	mac := client("a")
	b.say(message(t, mac, dhcpv4.MessageTypeDiscover))
	good := b.handler.save
	b.handler.save = func(Lease) error { return errors.New("full") }
	request := message(t, mac, dhcpv4.MessageTypeRequest, requested("10.0.0.10"), ofServer("10.0.0.1"))
	if got := b.say(request); len(got) != 0 {
		t.Errorf("%v", got)
	}
	b.handler.save = good
	if got := b.say(request); len(got) != 1 || got[0].MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("%v", got)
	}
	want(t, "events", fmt.Sprint(b.whats()), fmt.Sprint([]pidhcp.What{pidhcp.Answered, pidhcp.Failed, pidhcp.Acked}))
}

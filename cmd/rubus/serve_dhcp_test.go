package main

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rubus/boot"
	"rubus/boot/dhcptest"
	"rubus/boot/pidhcp"
	"rubus/config"
)

// Without a word in rubus.yaml firmware is answered as package pidhcp has it.
func TestDefaultManners(t *testing.T) {
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if d := cmp.Diff(pidhcp.DefaultManners(), mannersOf(config.DefaultDaemon().DHCP), same); d != "" {
		t.Error(d)
	}
}

func TestReasons(t *testing.T) {
	var r reasons
	r.set("eth1", "another server")
	r.set("", "no network")
	r.set("eth0", "")
	if got := r.list(); !slices.Equal(got, []string{"no network", "eth1: another server"}) {
		t.Errorf("%q", got)
	}
	r.set("", "")
	r.set("eth1", "")
	if got := r.list(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestPlainNames(t *testing.T) {
	plain := plainNames([]string{"boot.img", "*.sig"})
	for name, want := range map[string]bool{"5b154510/boot.img": true, "boot.sig": true, "boot.img.xz": false, "kernel8.img": false} {
		if plain(name) != want {
			t.Errorf("%s", name)
		}
	}
}

// From the packet to what "rubus status" is told: all that an unknown board's
// firmware says of it.
func TestUnknownBoardIsListed(t *testing.T) {
	now := time.Unix(1e9, 0)
	fleet := boot.New(boot.Options{State: t.TempDir(), Now: func() time.Time { return now }})
	fleet.Apply(&boot.Desired{Unknown: boot.UnknownList})
	flights := newFlights(nil)
	flights.fleet = fleet
	for _, name := range []string{"discover-pi3-rom", "discover-bootcode", "discover-pi4-2021", "discover-pi4"} {
		req, err := pidhcp.Parse(dhcptest.Packet(t, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := (dhcpDecider{fleet, flights}).Decide(t.Context(), pidhcp.Sighting{Request: req}); d.Answer || d.Why == "" {
			t.Errorf("%s: %+v", name, d)
		}
		now = now.Add(time.Second)
	}
	s, err := config.Parse(config.File{}, config.File{Name: "devices.yaml", Data: []byte("version: 1\n")})
	if err != nil {
		t.Fatal(err)
	}
	d := &controlled{fleet: fleet, conf: &reloader{now: s}, cfg: s.Daemon(), noDHCP: &reasons{}}
	st, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(st.Unknown)
	if err != nil {
		t.Fatal(err)
	}
	at := func(sec int) string { return time.Unix(1e9+int64(sec), 0).Format(time.RFC3339) }
	// The ROM's request and that of its second stage are one board's.
	want := `[{"serial":"b66c4c16","mac":"b8:27:eb:6c:4c:16","stage":"bootcode","times":2,"first":"` + at(0) + `","last":"` + at(1) + `"},` +
		`{"serial":"5b154510","mac":"dc:a6:32:2e:f8:ed","model":"4B 1.1 1 GiB","memory_mib":1024,"revision":"a03111",` +
		`"bootloader":"2020-03-16 to 2022-02-08","stage":"eeprom","times":1,"first":"` + at(2) + `","last":"` + at(2) + `"},` +
		`{"serial":"91cdf03d","mac":"e4:5f:01:09:02:f7","model":"4B 1.4 8 GiB","memory_mib":8192,"revision":"d03114",` +
		`"bootloader":"2022-02-04 or later","stage":"eeprom","times":1,"first":"` + at(3) + `","last":"` + at(3) + `"}]`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

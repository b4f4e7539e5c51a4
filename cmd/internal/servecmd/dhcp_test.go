package servecmd

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

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

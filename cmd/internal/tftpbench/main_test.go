package main

import (
	"slices"
	"testing"
)

func TestGoals(t *testing.T) {
	m := map[string]measured{"rubus": {rate: 69, cpu: 7.6}, "dnsmasq": {rate: 60, cpu: 6.1}}
	want := []string{
		"goal: 1 clients, MB/s no worse than dnsmasq's: met (69.00, 60.00)",
		"goal: 1 clients, CPU ms/MB no worse than dnsmasq's: missed (7.60, 6.10)",
	}
	if got := goals(1, m); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	delete(m, "dnsmasq")
	if got := goals(1, m); got != nil {
		t.Errorf("without dnsmasq: %q", got)
	}
}

package main

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// TestEnded: the slowest of all files is told, and one that came short is a mistake.
func TestEnded(t *testing.T) {
	l := &loader{plan: loadPlan{size: 10}, byFD: map[int32]*client{}}
	file := func(took time.Duration, got int64) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return l.ended(&client{fd: fd, left: 1, got: got, begun: time.Now().Add(-took)})
	}
	for _, took := range []time.Duration{time.Minute, time.Hour, time.Second} {
		if err := file(took, 10); err != nil {
			t.Fatal(err)
		}
	}
	if l.seen.slowest < time.Hour {
		t.Errorf("the slowest took %s", l.seen.slowest)
	}
	if err := file(time.Second, 9); err == nil {
		t.Error("a file without its end is taken")
	}
}

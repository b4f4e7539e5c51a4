package keycmd

import (
	"net/netip"
	"strings"
	"testing"

	"rubus/config/device"
)

func TestNamesOf(t *testing.T) {
	addr := netip.MustParseAddr("10.77.0.20")
	for name, c := range map[string]struct {
		hostname, label string
		address         netip.Addr
		want            string
	}{
		"all that there is":     {"pi.lab.example.com", "bench-01", addr, "pi.lab.example.com pi bench-01 10.77.0.20"},
		"a name without domain": {"bench-01", "bench-01", addr, "bench-01 10.77.0.20"},
		"its short name":        {"bench-01.lab", "bench-01", netip.Addr{}, "bench-01.lab bench-01"},
		"not in devices.yaml":   {"rpi-5b154510", "", netip.Addr{}, "rpi-5b154510"},
		"called by its serial":  {"rpi-5b154510", "5b154510", addr, "rpi-5b154510 5b154510 10.77.0.20"},
	} {
		if got := strings.Join(namesOf(c.hostname, c.label, c.address), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The fingerprint is that of "ssh-keygen -lf" for the same line.
func TestHostKeys(t *testing.T) {
	const line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	serial, err := device.ParseSerial("5b154510")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := HostKeys(serial, []string{line})
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	want := HostKey{"ssh-ed25519", "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU", line}
	if keys[0] != want || keys[0].String() != want.Fingerprint+" ed25519" {
		t.Errorf("%+v, %q", keys[0], keys[0])
	}
	if keys, err := HostKeys(serial, nil); err != nil || keys == nil {
		t.Errorf("no keys are %v, %v: want an empty list, for --json", keys, err)
	}
	for _, bad := range []string{"", "ssh-ed25519", "ssh-ed25519 AAAA", "10.0.0.1 " + line + "x"} {
		if _, err := HostKeys(serial, []string{line, bad}); err == nil || !strings.Contains(err.Error(), "5b154510") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

package identity

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	for _, c := range []struct{ name, hosts, hostname, want string }{
		{"another's name", "127.0.0.1 localhost\n127.0.1.1 raspberrypi\n10.0.0.1 x\n", "bench-01", "127.0.0.1 localhost\n127.0.1.1\tbench-01\n10.0.0.1 x\n"},
		{"none", "127.0.0.1 localhost\n", "bench-01", "127.0.0.1 localhost\n127.0.1.1\tbench-01\n"},
		{"its own, with more", "127.0.1.1 bench-01 app # mine\n", "bench-01", "127.0.1.1 bench-01 app # mine\n"},
		{"dotted", "", "bench-01.lab", "127.0.1.1\tbench-01.lab bench-01\n"},
		{"a comment", "#127.0.1.1 old\n", "bench-01", "#127.0.1.1 old\n127.0.1.1\tbench-01\n"},
		{"no newline at the end", "127.0.1.1 a\n::1 b", "c", "127.0.1.1\tc\n::1 b\n"},
		{"an address alone", "127.0.1.1\n", "c", "127.0.1.1\tc\n"},
	} {
		if got := string(withHostname([]byte(c.hosts), c.hostname)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What a board has in its files is a board's: whatever it is, the second time nothing
// is to be done, and nothing else of it is lost.
func FuzzHosts(f *testing.F) {
	for _, s := range []string{"", "127.0.1.1 a\n", "127.0.1.1", "#x\r\n\n127.0.1.1\tb c\n127.0.1.1 d", "\x00\n127.0.1.1 #"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, hosts []byte) {
		once := withHostname(hosts, "bench-01.lab")
		if twice := withHostname(once, "bench-01.lab"); !bytes.Equal(once, twice) {
			t.Errorf("once %q, twice %q", once, twice)
		}
		for line := range strings.Lines(string(hosts)) {
			line = strings.TrimSuffix(line, "\n")
			if !strings.Contains(line, "127.0.1.1") && !slices.Contains(strings.Split(string(once), "\n"), line) {
				t.Errorf("%q is lost in %q", line, once)
			}
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("ssh-rsa AAAA x\n\n# mine\n"), "ssh-rsa AAAB y")
	f.Add([]byte("a\r\nb"), "b")
	f.Add([]byte("\n"), "")
	f.Fuzz(func(t *testing.T, own []byte, line string) {
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsAny(line, "\n\r") {
			return // no line of authorized_keys
		}
		given := withKeys(own, []string{line}, nil)
		if again := withKeys(given, []string{line}, nil); !bytes.Equal(given, again) {
			t.Errorf("once %q, twice %q", given, again)
		}
		taken := withKeys(given, nil, remember(nil, []string{line}))
		for l := range strings.Lines(string(taken)) {
			if strings.TrimSpace(l) == line {
				t.Errorf("%q is still in %q", line, taken)
			}
		}
		if again := withKeys(taken, nil, remember(nil, []string{line})); !bytes.Equal(taken, again) {
			t.Errorf("taken once %q, twice %q", taken, again)
		}
	})
}

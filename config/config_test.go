package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rubus/config/device"
)

func mustParse(t *testing.T, devices string) *Snapshot {
	t.Helper()
	s, err := Parse(File{}, File{Name: "/etc/rubus/devices.yaml", Data: []byte(devices)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serial(t *testing.T, s string) device.Serial {
	t.Helper()
	n, err := device.ParseSerial(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const layered = `unknown: {boot: rescue@2}
defaults:
  image: lab
  cmdline: [d1, d2]
  config: [a=0]
groups:
  g1:
    image: one
    cmdline: g1
  g2:
    image: two
    overlay: ephemeral
    enabled: false
    cmdline: g2
    config: [a=2]
devices:
  - serial: 00000002
    name: b
    group: [g1, g2]
    cmdline: [own]
    enabled: true
  - serial: 00000001
    group: g2
    image: lab@3
    address: 10.0.0.1
  - serial: 00000003
`

func TestResolve(t *testing.T) {
	s := mustParse(t, layered)
	type plain struct {
		Serial, Image, Overlay, Cmdline, Config string
		Enabled                                 bool
	}
	var got []plain
	for _, d := range s.Devices() {
		got = append(got, plain{
			d.Serial.String(), d.Image.String(), string(d.Overlay),
			strings.Join(d.Cmdline, " "), strings.Join(d.Config, " "), d.Enabled,
		})
	}
	want := []plain{
		{"00000001", "lab@3", "ephemeral", "d1 d2 g2", "a=0 a=2", false},
		{"00000002", "one", "ephemeral", "d1 d2 g1 g2 own", "a=0 a=2", true},
		{"00000003", "lab", "persistent", "d1 d2", "a=0", true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	u := s.Unknown()
	if u.Policy != UnknownBoot || u.Device.Image.String() != "rescue@2" || len(u.Device.Cmdline) != 2 || u.Device.Overlay != Persistent {
		t.Errorf("unknown: %+v", u)
	}
}

// Sync is the nearest that says, else that of rubus.yaml.
func TestSync(t *testing.T) {
	const devices = `defaults: {image: lab}
groups: {fast: {sync: false}}
devices:
  - serial: 00000001
  - {serial: 00000002, group: fast}
  - {serial: 00000003, group: fast, sync: true}
`
	for _, c := range []struct {
		name, daemon string
		want         []string
	}{
		{"built in", "", []string{"true built in", "false group fast (devices.yaml:2)", "true device (devices.yaml:6)"}},
		{"of rubus.yaml", "nfs: {sync: false}", []string{"false nfs.sync of rubus.yaml", "false group fast (devices.yaml:2)", "true device (devices.yaml:6)"}},
	} {
		s, err := Parse(File{"rubus.yaml", []byte(c.daemon)}, File{"devices.yaml", []byte(devices)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range s.Devices() {
			got = append(got, fmt.Sprint(d.Sync, " ", d.Sources("sync")[0]))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestSources(t *testing.T) {
	s := mustParse(t, layered)
	for name, c := range map[string]struct{ serial, key, want string }{
		"first group":     {"00000002", "image", "group g1 (devices.yaml:8)"},
		"second group":    {"00000002", "overlay", "group g2 (devices.yaml:12)"},
		"device":          {"00000002", "enabled", "device (devices.yaml:21)"},
		"defaults":        {"00000003", "image", "defaults (devices.yaml:3)"},
		"built in":        {"00000003", "overlay", "built in"},
		"own key":         {"00000001", "address", "device (devices.yaml:25)"},
		"none":            {"00000001", "mac", ""},
		"one for a line":  {"00000002", "cmdline", "defaults (devices.yaml:4), defaults (devices.yaml:4), group g1 (devices.yaml:9), group g2 (devices.yaml:14), device (devices.yaml:20)"},
		"one for a group": {"00000002", "group", "device (devices.yaml:19), device (devices.yaml:19)"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, src := range s.BySerial(serial(t, c.serial)).Sources(c.key) {
				got = append(got, src.String())
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("%s of %s comes from %q, want %q", c.key, c.serial, got, c.want)
			}
		})
	}
}

func TestByMAC(t *testing.T) {
	s := mustParse(t, `defaults: {image: lab}
devices:
  - serial: b66c4c16
  - {serial: 5b154510, mac: "dc:a6:32:2e:f8:ed"}
  - {serial: 5c154510}
`)
	for name, c := range map[string]struct{ mac, want string }{
		"derived from the serial":             {"b8:27:eb:6c:4c:16", "b66c4c16"},
		"named":                               {"dc:a6:32:2e:f8:ed", "5b154510"},
		"a named one leaves the derived free": {"b8:27:eb:15:45:10", "5c154510"},
		"nobody's":                            {"b8:27:eb:00:00:01", ""},
	} {
		t.Run(name, func(t *testing.T) {
			mac, err := device.ParseMAC(c.mac)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if d := s.ByMAC(mac); d != nil {
				got = d.Serial.String()
			}
			if got != c.want {
				t.Errorf("%s is %q, want %q", mac, got, c.want)
			}
		})
	}
	if len(s.MACs()) != 3 {
		t.Errorf("MACs: %v", s.MACs())
	}
}

func TestSizeBound(t *testing.T) {
	data := append([]byte("# "), make([]byte, MaxFile)...)
	_, err := Parse(File{}, File{Name: "devices.yaml", Data: data})
	if err == nil || !strings.Contains(err.Error(), "at most 4194304 are read") {
		t.Errorf("a file that is too large: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "1GiB": 1 << 30, "1.5 MiB": 3 << 19, "10kB": 10_000, "2TB": 2e12,
		"1K": 1 << 10, "4G": 4 << 30, "": -1, "1k": -1, "1Gi": -1, "-1": -1, "1e9": -1, "GiB": -1, "999999999999TiB": -1,
	} {
		got, err := parseSize(in)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func fleet(t *testing.T, serials ...string) *Snapshot {
	t.Helper()
	text := "defaults: {image: lab}\ndevices:\n"
	for _, s := range serials {
		text += "  - serial: " + s + "\n"
	}
	return mustParse(t, text)
}

func TestGuard(t *testing.T) {
	four := fleet(t, "00000001", "00000002", "00000003", "00000004")
	for name, c := range map[string]struct {
		old, next *Snapshot
		refused   bool
	}{
		"the same":          {four, four, false},
		"half":              {four, fleet(t, "00000001", "00000002"), false},
		"more than half":    {four, fleet(t, "00000001"), true},
		"more, others came": {four, fleet(t, "00000001", "0000000a", "0000000b", "0000000c"), true},
		"emptied":           {four, fleet(t), true},
		"the only one":      {fleet(t, "00000001"), fleet(t), true},
		"was empty":         {fleet(t), fleet(t), false},
	} {
		t.Run(name, func(t *testing.T) {
			err := Guard(c.old, c.next)
			var drop *DropError
			if errors.As(err, &drop) != c.refused {
				t.Errorf("Guard: %v", err)
			}
		})
	}
}

func TestLoadOrLast(t *testing.T) {
	const good, other = "defaults: {image: lab}\ndevices: [{serial: 00000001}]\n", "defaults: {image: lab}\ndevices: [{serial: 00000002}]\n"
	for name, c := range map[string]struct {
		devices, daemon, last string // "" is no file
		want                  string // the serial served; "" none; "-" cannot start
		refused               string
	}{
		"valid":                       {devices: good, want: "00000001"},
		"valid, like the last":        {devices: good, last: good, want: "00000001"},
		"broken":                      {devices: "devices: {", last: other, want: "00000002", refused: "devices.yaml:1: "},
		"broken, no last":             {devices: "devices: {", want: "-", refused: "devices.yaml:1: "},
		"missing":                     {last: other, want: "00000002", refused: "no such file"},
		"missing, no last":            {want: "", refused: "no such file"},
		"emptied":                     {devices: "# nothing\n", last: other, want: "00000002", refused: "has no device"},
		"broken rubus.yaml":           {devices: good, daemon: "nfs: 1\n", last: other, want: "00000002", refused: "rubus.yaml:1: "},
		"broken rubus.yaml, no last":  {devices: good, daemon: "nfs: 1\n", want: "-", refused: "rubus.yaml:1: "},
		"broken rubus.yaml, no other": {daemon: "nfs: 1\n", want: "-", refused: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := Paths{filepath.Join(dir, "rubus.yaml"), filepath.Join(dir, "devices.yaml")}
			for file, text := range map[string]string{p.Devices: c.devices, p.Daemon: c.daemon} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			state := filepath.Join(dir, "state")
			if c.last != "" {
				for range 2 { // saving twice is as saving once
					if err := SaveLast(state, mustParse(t, c.last)); err != nil {
						t.Fatal(err)
					}
				}
				fi, err := os.Stat(LastPaths(state).Devices)
				if err != nil || fi.Mode() != 0o600 {
					t.Fatalf("the kept file: %v, %v", fi, err)
				}
			}
			s, refused, err := LoadOrLast(p, state)
			got := "-"
			if err == nil {
				got = ""
				for _, d := range s.Devices() {
					got += d.Serial.String()
				}
			}
			if got != c.want {
				t.Errorf("serves %q, %v; want %q", got, err, c.want)
			}
			if (refused == nil) != (c.refused == "") || refused != nil && !strings.Contains(refused.Error(), c.refused) {
				t.Errorf("refused: %v; want %q", refused, c.refused)
			}
		})
	}
}

func TestSaveLastForgetsDaemonFile(t *testing.T) {
	state := t.TempDir()
	with, err := Parse(File{"rubus.yaml", []byte("quiet: 10m\n")}, File{Name: "devices.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Snapshot{with, fleet(t, "00000001")} {
		if err := SaveLast(state, s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(LastPaths(state).Daemon); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rubus.yaml of an older snapshot is still there: %v", err)
	}
}

func TestNeedsRestart(t *testing.T) {
	a, b := DefaultDaemon(), DefaultDaemon()
	b.NFS.Port, b.Listen = 2050, []Listen{{Interface: "eth0"}}
	if diff := cmp.Diff([]string{"listen", "nfs"}, NeedsRestart(a, b)); diff != "" {
		t.Error(diff)
	}
	if got := NeedsRestart(a, a); got != nil {
		t.Errorf("nothing changed: %v", got)
	}
}

// FuzzParse wants no input to break the loader, every refusal to name lines of
// the file, and what is taken to be safe to write into a board's files.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := strings.Count(string(data), "\n") + 1
		check := func(err error) {
			var p Problems
			if err == nil || !errors.As(err, &p) || len(p) == 0 {
				t.Fatalf("an error that lists no problems: %v", err)
			}
			for i, q := range p {
				if q.Line < 0 || q.Line > lines || i > 0 && q.Line < p[i-1].Line {
					t.Fatalf("line %d of %d: %v", q.Line, lines, p)
				}
			}
		}
		if _, err := ParseDaemon(File{"rubus.yaml", data}); err != nil {
			check(err)
		}
		s, err := Parse(File{}, File{"devices.yaml", data})
		if err != nil {
			check(err)
			return
		}
		for _, d := range s.Devices() {
			if d.Serial.IsZero() || d.Image.IsZero() || s.BySerial(d.Serial) != d {
				t.Fatalf("device %+v", d)
			}
			for _, l := range append(d.Cmdline, d.Config...) {
				if strings.ContainsAny(l, "\n\r\x00") {
					t.Fatalf("line %q", l)
				}
			}
		}
	})
}

// The nearest quota counts, and "none" is one.
func TestQuota(t *testing.T) {
	data, err := os.ReadFile("testdata/devices/quota.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := mustParse(t, string(data))
	want := map[string]string{
		"00000001": "4GiB defaults", "00000002": "{size: 512GiB, files: 2000000} group big", "00000003": "none device", "00000004": "1MiB device",
		"00000005": "{files: 64} group few",
	}
	got := map[string]string{}
	for _, d := range s.Devices() {
		got[d.Serial.String()] = d.Quota.String() + " " + d.Sources("quota")[0].Origin
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

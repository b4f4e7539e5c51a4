package flow

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/cmd/rubus/e2e/harness"
)

// simulated is what "rubus simulate --json" prints, as far as these tests read it.
type simulated struct {
	OK        bool
	Verdict   string
	Booted    int
	Kernel    struct{ Name, SHA256 string }
	Initramfs struct{ Name, SHA256 string }
	DTB       struct{ Name, SHA256 string } `json:"device_tree"`
	Cmdline   string
	Problems  []string
	Boards    []struct {
		Serial  string
		Files   int
		Retries int
	}
}

// firmware runs "rubus simulate" on the site's host.
func (s *site) firmware(args ...string) simulated {
	s.t.Helper()
	out := s.rubus(append([]string{"simulate", "--json"}, args...)...)
	var r simulated
	if err := json.Unmarshal([]byte(out.stdout), &r); err != nil || out.code != 0 {
		s.t.Fatalf("rubus simulate %s: exit code %d, %v\n%s%s", strings.Join(args, " "), out.code, err, out.stderr, harness.LastLines(out.stdout, 30))
	}
	return r
}

// Every model with bootloaders of every age gets from a running server what a dry
// run says that it gets, on a bad network too, and many at once.
func TestEveryFirmware(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root := tinyRoot(t, s.dir, "1")
	for name, text := range map[string]string{
		"bcm2710-rpi-3-b-plus.dtb": "3B+", "bcm2711-rpi-400.dtb": "400", "bcm2711-rpi-cm4.dtb": "CM4",
		"bcm2712-rpi-5-b.dtb": "brcm,bcm2712 5", "bcm2712-rpi-500.dtb": "brcm,bcm2712 500", "bcm2712-rpi-cm5-cm5io.dtb": "brcm,bcm2712 CM5",
	} {
		must(t, os.WriteFile(filepath.Join(root, "boot/firmware", name), []byte(text), 0o644))
	}
	s.must("image", "import", "lab", root)
	cases := []struct{ model, eeprom string }{
		{"3b", ""},
		{"3b+", ""},
		{"4b", "2020-01-17"},
		{"4b", "2020-03-04"},
		{"4b", "2021-04-29"},
		{"4b", "2022-02-04"},
		{"4b", "2022-02-08"},
		{"4b", "2022-10-03"},
		{"4b", "2025-09-23"},
		{"400", "2020-09-03"},
		{"400", ""},
		{"cm4", "2022-01-25"},
		{"cm4", ""},
		{"5", "2023-10-18"},
		{"5", "2023-10-30"},
		{"5", ""},
		{"500", ""},
		{"cm5", ""},
	}
	var devices strings.Builder
	for i := range cases {
		fmt.Fprintf(&devices, "  - {serial: \"5b15%04x\", image: lab, cmdline: [case%d]}\n", i+1, i)
	}
	for i := range 20 {
		fmt.Fprintf(&devices, "  - {serial: \"5b16%04x\", image: lab}\n", i)
	}
	s.router(onePool)
	s.devices("version: 1\ndevices:\n" + devices.String())
	s.serve()
	for i, c := range cases {
		args := []string{"--serial", fmt.Sprintf("5b15%04x", i+1), "--model", c.model}
		if c.eeprom != "" {
			args = append(args, "--eeprom", c.eeprom)
		}
		network := append([]string{"--interface", bridge}, args...)
		if i%2 == 1 {
			network = append(network, "--loss", "2%", "--dup", "2%", "--delay", "500us", "--seed", fmt.Sprint(i))
		}
		got, planned := s.firmware(network...), s.firmware(append([]string{"--dry-run"}, args...)...)
		if got.Kernel != planned.Kernel || got.Initramfs != planned.Initramfs || got.DTB != planned.DTB || got.Kernel.Name == "" {
			t.Errorf("%v: got %+v, the dry run said %+v", c, got, planned)
		}
		// Only who asks knows the server's address, and the slot is made then.
		before := func(cmdline string) string { b, _, _ := strings.Cut(cmdline, "nfsroot="); return b }
		if before(got.Cmdline) != before(planned.Cmdline) || !strings.HasSuffix(got.Cmdline, fmt.Sprintf(" case%d", i)) || !strings.HasSuffix(planned.Cmdline, fmt.Sprintf(" case%d", i)) {
			t.Errorf("%v: got %q, the dry run said %q", c, got.Cmdline, planned.Cmdline)
		}
		if len(planned.Problems) > 0 {
			t.Errorf("%v: %q", c, planned.Problems)
		}
	}
	many := s.firmware("--interface", bridge, "--serial", "5b160000", "--model", "4b", "--boards", "20", "--loss", "1%")
	if !many.OK || many.Booted != 20 || len(many.Boards) != 20 || many.Boards[19].Serial != "5b160013" || many.Boards[0].Files == 0 {
		t.Errorf("%+v", many)
	}
}

package fakepi

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rubus/config/device"
)

// TestReleases: what a bootloader of each age sends. The FourCC's bytes are
// those of the images.
func TestReleases(t *testing.T) {
	serial, err := device.ParseSerial("5b154510")
	if err != nil {
		t.Fatal(err)
	}
	mac := device.MAC{0xdc, 0xa6, 0x32, 0x2e, 0xf8, 0xed}
	const rest, noMAC = "1131a000" + "322ef8ed" + "1045155b", "1131a000" + "00000000" + "1045155b"
	rpi4, ipr4, ipr5 := hex.EncodeToString([]byte("RPi4")), hex.EncodeToString([]byte("4iPR")), hex.EncodeToString([]byte("5iPR"))
	five := "7041d000" + "322ef8ed" + "1045155b"
	for _, c := range []struct {
		model, date, guid string
		blksize           int
		most              int64
		relay, reacks     bool
	}{
		{"4b", "2019-10-08", strings.Repeat("1045155b", 4), 1024, 67_107_839, false, false},
		{"4b", "2020-03-03", strings.Repeat("1045155b", 4), 1024, 67_107_839, false, false},
		{"4b", "2020-03-04", rpi4 + noMAC, 1024, 67_107_839, false, false},
		{"4b", "2020-03-16", rpi4 + rest, 1024, 67_107_839, false, false},
		{"4b", "2020-06-12", rpi4 + rest, 1024, 67_107_839, true, false},
		{"4b", "2021-04-29", rpi4 + rest, 1024, 67_107_839, true, true},
		{"4b", "2022-01-25", rpi4 + rest, 1024, 67_107_839, true, true},
		{"4b", "2022-02-04", ipr4 + rest, 1024, 67_107_839, true, true},
		{"4b", "2022-02-08", rpi4 + rest, 1024, 67_107_839, true, true},
		{"4b", "2022-02-16", ipr4 + rest, 1024, 67_107_839, true, true},
		{"4b", "2022-10-03", ipr4 + rest, 1468, 96_205_379, true, true},
		{"4b", "2025-09-22", ipr4 + rest, 1468, 96_205_379, true, true},
		{"4b", "2025-09-23", ipr4 + rest, 1468, 0, true, true},
		{"5", "2023-09-28", ipr4 + five, 1468, 96_205_379, true, true},
		{"5", "2023-10-30", ipr5 + five, 1468, 96_205_379, true, true},
		{"5", "2026-08-19", ipr5 + five, 1468, 0, true, true},
	} {
		s := Setup{Model: c.model, Serial: serial, MAC: mac, EEPROM: day(c.date)}
		if c.model == "4b" {
			s.Revision = 0xa03111
		}
		b, err := s.Board()
		if err != nil {
			t.Fatal(err)
		}
		first := b.stages[0]
		if g := first.dhcp.guid(b); hex.EncodeToString(g[:]) != "00"+c.guid {
			t.Errorf("%s of %s: option 97 is %x, want 00%s", c.model, c.date, g, c.guid)
		}
		if first.tftp.blksize != c.blksize || first.tftp.maxFile() != c.most {
			t.Errorf("%s of %s: blocks of %d, files up to %d", c.model, c.date, first.tftp.blksize, first.tftp.maxFile())
		}
		if first.dhcp.relayless == c.relay || first.tftp.reacks != c.reacks {
			t.Errorf("%s of %s: relayless %v, reacks %v", c.model, c.date, first.dhcp.relayless, first.tftp.reacks)
		}
	}
}

func TestSetupErrors(t *testing.T) {
	serial, err := device.ParseSerial("5b154510")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		setup Setup
		want  string
	}{
		"a 3 with an EEPROM":  {Setup{Model: "3b+", EEPROM: day("2020-03-04")}, "has no EEPROM"},
		"a 3 with a prefix":   {Setup{Model: "3b", Prefix: Prefix{kind: prefixMAC}}, "has no EEPROM"},
		"before the first":    {Setup{Model: "4b", EEPROM: day("2019-05-10")}, "name a date from 2019-10-08 to"},
		"a 5 before there is": {Setup{Model: "cm5", EEPROM: day("2022-01-25")}, "a Pi 5's bootloader of 2022-01-25 is not known"},
		"in the future":       {Setup{Model: "400", EEPROM: day("2036-01-01")}, "is not known"},
		"another's revision":  {Setup{Model: "4b", Revision: 0xd04170}, "revision d04170 is that of a 5 1.0 8 GiB, not of a Raspberry Pi 4 Model B"},
		"an old revision":     {Setup{Model: "3b", Revision: 0x10}, "revision 000010"},
	} {
		c.setup.Serial = serial
		if _, err := c.setup.Board(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	b := testBoard(t, "4b", "5b154510", "dc:a6:32:01:36:c2", 0)
	for in, want := range map[string]string{
		"": "5b154510/", "serial": "5b154510/", "mac": "dc-a6-32-01-36-c2/", "none": "", "lab/": "lab/", "a/b/": "a/b/",
	} {
		p, err := ParsePrefix(in)
		if err != nil || p.of(b) != want {
			t.Errorf("%q: %q, %v", in, p.of(b), err)
		}
	}
	for _, in := range []string{"lab", "a b/", strings.Repeat("x", 32) + "/", "ä/", "MAC"} {
		if _, err := ParsePrefix(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

// TestOldBootloaders: mistakes of the first years, each gone with a release.
func TestOldBootloaders(t *testing.T) {
	padded, plain := menu(bootText+"   "), menu(bootText)
	router := offer{from: lanRouter, yiaddr: lanBoard}
	proxy := func(option43, option66 string) []offer {
		return []offer{router, {from: lanServer, option43: option43, option66: option66}}
	}
	two := "\x06\x01\x03\x0a\x04\x00PXE\x09\x18\x00\x01\x04Boot\x00\x00\x11" + bootText + "\xff"
	for name, c := range map[string]struct {
		offers   []offer
		old, now string // the date, and the first one without the mistake
		follows  string // whom the old one follows; "": nobody
		then     string
	}{
		"padded text":          {proxy(padded, ""), "2019-10-08", "2019-10-16", "", "10.0.0.1"},
		"plain text":           {proxy(plain, ""), "2019-10-08", "2019-10-16", "10.0.0.1", "10.0.0.1"},
		"another item first":   {proxy(two, ""), "2019-12-03", "2020-01-09", "", "10.0.0.1"},
		"option 66 of a digit": {proxy("", "10.0.0.1"), "2019-12-03", "2020-01-09", "10.0.0.14", "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			for date, want := range map[string]string{c.old: c.follows, c.now: c.then} {
				synctest.Test(t, func(t *testing.T) {
					res, err := playSetup(t, &lan{offers: c.offers}, Setup{Model: "4b", EEPROM: day(date)})
					got := ""
					if res.Server.IsValid() {
						got = res.Server.String()
					}
					if got != want {
						t.Errorf("a bootloader of %s goes to %q, want %q (%v)\n%s", date, got, want, err, trace(res.Events))
					}
				})
			}
		})
	}
}

// TestRelay: answers by way of a relay were not taken before June 2020, and are
// not by a 3B's ROM.
func TestRelay(t *testing.T) {
	offers := both()
	for i := range offers {
		offers[i].giaddr = netip.MustParseAddr("10.0.0.253")
	}
	for name, c := range map[string]struct {
		setup Setup
		want  error
	}{
		"4b of 2020-05-15": {Setup{Model: "4b", EEPROM: day("2020-05-15")}, ErrNoOffer},
		"4b of 2020-06-12": {Setup{Model: "4b", EEPROM: day("2020-06-12")}, nil},
		"3b":               {Setup{Model: "3b"}, ErrNoOffer},
		"3b+":              {Setup{Model: "3b+"}, nil},
		"5":                {Setup{Model: "5"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				res, err := playSetup(t, &lan{offers: offers}, c.setup)
				if c.want != nil && !errors.Is(err, c.want) || c.want == nil && !res.Address.IsValid() {
					t.Errorf("%v\n%s", err, trace(res.Events))
				}
			})
		})
	}
}

// TestOSCheck: a Pi 5 starts no system that is none for it.
func TestOSCheck(t *testing.T) {
	files := func(config string) map[string][]byte {
		return below("b66c4c16/", with(debian(), map[string]string{
			"config.txt": config, "kernel8.img": "k", "bcm2712-rpi-5-b.dtb": "brcm,bcm2711", "initrd.img-6.1": "",
		}))
	}
	for config, want := range map[string]string{"#\n": "the system is not one for a Pi 5", "os_check=0\n": ""} {
		synctest.Test(t, func(t *testing.T) {
			_, err := play(t, &lan{files: files(config), offers: both()}, "5")
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", config, err)
			}
		})
	}
}

// TestPlan: a plan asks for what a boot asks for, in the same order, and has
// the limits of the firmware.
func TestPlan(t *testing.T) {
	for _, m := range Models() {
		t.Run(m.Name, func(t *testing.T) {
			files := below("b66c4c16/", with(debian(), map[string]string{
				"bcm2712-rpi-5-b.dtb": "brcm,bcm2712", "bcm2712-rpi-500.dtb": "brcm,bcm2712", "bcm2712-rpi-cm5-cm5io.dtb": "brcm,bcm2712",
			}))
			var booted, planned []string
			names := func(events []Event) (out []string) {
				for _, e := range events {
					if e.File != "" {
						out = append(out, string(e.Kind)+" "+e.File+" "+string(e.Outcome))
					}
				}
				return out
			}
			var boot *Result
			synctest.Test(t, func(t *testing.T) {
				var err error
				if boot, err = play(t, &lan{files: files, offers: both()}, m.Name); err != nil {
					t.Fatal(err)
				}
				booted = names(boot.Events)
			})
			plan, err := Run(t.Context(), testBoard(t, m.Name, "b66c4c16", "", 0), Options{Files: mapFiles(files)})
			if err != nil {
				t.Fatal(err)
			}
			planned = names(plan.Events)
			if strings.Join(booted, "\n") != strings.Join(planned, "\n") {
				t.Errorf("booted\n%s\nplanned\n%s", strings.Join(booted, "\n"), strings.Join(planned, "\n"))
			}
			if boot.Bytes != plan.Bytes || boot.Files != plan.Files || boot.Blocks != plan.Blocks {
				t.Errorf("a boot took %d files, %d bytes, %d blocks, its plan says %d, %d, %d",
					boot.Files, boot.Bytes, boot.Blocks, plan.Files, plan.Bytes, plan.Blocks)
			}
		})
	}
	big := below("b66c4c16/", with(debian(), map[string]string{"initrd.img-6.1": string(make([]byte, 97<<20))}))
	_, err := Run(t.Context(), testBoard(t, "4b", "b66c4c16", "", 0), Options{Files: mapFiles(big)})
	if !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// TestEEPROMDefault: the newest one known.
func TestEEPROMDefault(t *testing.T) {
	b := testBoard(t, "4b", "5b154510", "", 0)
	if _, latest := b.Model.EEPROM(); !b.EEPROM.Equal(latest) || latest.Before(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Error(b.EEPROM)
	}
	if first, _ := testBoard(t, "3b", "5b154510", "", 0).Model.EEPROM(); !first.IsZero() {
		t.Error(first)
	}
}

// TestNAK: an address that another board got meanwhile is asked for anew.
func TestNAK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lan{offers: both(), files: below("b66c4c16/", debian()), naks: 2}
		if res, err := play(t, l, "4b"); err != nil || len(l.requests) != 3 {
			t.Errorf("%d REQUESTs, %v\n%s", len(l.requests), err, trace(res.Events))
		}
	})
}

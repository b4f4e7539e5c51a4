package fakepi

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"rubus/config/device"
)

func testBoard(t testing.TB, model, serial, mac string, rev device.Revision) Board {
	s, err := device.ParseSerial(serial)
	if err != nil {
		t.Fatal(err)
	}
	var m device.MAC
	if mac != "" {
		if m, err = device.ParseMAC(mac); err != nil {
			t.Fatal(err)
		}
	}
	b, err := NewBoard(model, s, m)
	if err != nil {
		t.Fatal(err)
	}
	if rev != 0 {
		b.Revision = rev
	}
	return b
}

// TestDiscover: option by option what captures show. The lengths are those
// that tcpdump prints.
func TestDiscover(t *testing.T) {
	const arch, undi = "5d020000", "5e03010201"
	class := "3c20" + hex.EncodeToString([]byte(vendorClass))
	pi3 := testBoard(t, "3b", "b66c4c16", "", 0)
	// A 4B of 1 GB whose EEPROM is of 2021 (but with today's FourCC).
	pi4 := testBoard(t, "4b", "5b154510", "dc:a6:32:2e:f8:ed", 0xa03111)
	for name, c := range map[string]struct {
		board   Board
		stage   int
		xid     uint32
		length  int
		options string
	}{
		"Pi 3B ROM": {
			pi3, 0, pi3xid, 320,
			"350101 370c2b3c43808182838485868742" + arch + undi + "611100" + strings.Repeat("44", 16) + class + "ff",
		},
		"bootcode.bin": {
			pi3, 1, pi3xid, 322,
			"350101 370e2b3c438081828384858687420103" + arch + undi + "611100" + strings.Repeat("164c6cb6", 4) + class + "ff",
		},
		"Pi 3B+ ROM": {
			testBoard(t, "3b+", "b66c4c16", "", 0), 0, pi3xid, 322,
			"350101 370e2b3c438081828384858687420103" + arch + undi + "611100" + strings.Repeat("164c6cb6", 4) + class + "ff",
		},
		"Pi 4 EEPROM": {
			pi4, 0, 0x01020304, 322,
			"350101 370e01032b3c42438081828384858687" + arch + undi + "611100 34695052 1131a000 322ef8ed 1045155b" + class + "ff",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.board.stages[c.stage].dhcp
			got := discover(s, c.board, c.xid)
			if len(got) != c.length {
				t.Errorf("%d bytes, want %d", len(got), c.length)
			}
			want, err := hex.DecodeString(strings.ReplaceAll(c.options, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[240:], want) {
				t.Errorf("options\n%x, want\n%x", got[240:], want)
			}
			golden(t, strings.ReplaceAll(strings.ToLower(name), " ", "-")+".discover", hex.Dump(got))
		})
	}
}

func TestRRQ(t *testing.T) {
	stages := func(model string) []stage { return testBoard(t, model, "d9780558", "", 0).stages }
	for name, c := range map[string]struct {
		file, want string
		style      tftpStyle
	}{
		"ROM":        {"bootcode.bin", "\x00\x01bootcode.bin\x00octet\x00", stages("3b")[0].tftp},
		"start.elf":  {"d9780558/config.txt", "\x00\x01d9780558/config.txt\x00octet\x00tsize\x000\x00", stages("3b")[2].tftp},
		"EEPROM":     {"d9780558/start4.elf", "\x00\x01d9780558/start4.elf\x00octet\x00tsize\x000\x00blksize\x001468\x00", stages("4b")[0].tftp},
		"start4.elf": {"d9780558/start.elf", "\x00\x01d9780558/start.elf\x00octet\x00tsize\x000\x00blksize\x001024\x00", stages("4b")[1].tftp},
	} {
		if got := string(rrq(c.file, c.style)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if n := len(rrq("d9780558/start.elf", stages("4b")[1].tftp)); n != 48 {
		t.Errorf("the captured RRQ has 48 bytes, ours %d", n)
	}
}

func TestCeilings(t *testing.T) {
	for model, want := range map[string][]int64{
		"3b": {33_553_919, 33_553_919, 33_553_919}, "4b": {0, 67_107_839},
	} {
		for i, s := range testBoard(t, model, "d9780558", "", 0).stages {
			if got := s.tftp.maxFile(); got != want[i] {
				t.Errorf("%s, %s: %d, want %d", model, s.name, got, want[i])
			}
		}
	}
}

func TestNewBoard(t *testing.T) {
	if b := testBoard(t, "3B", "b66c4c16", "", 0); b.MAC.String() != "b8:27:eb:6c:4c:16" {
		t.Error(b.MAC)
	}
	if b := testBoard(t, "4b", "5b154510", "", 0); b.MAC.String() != "dc:a6:32:15:45:10" {
		t.Error(b.MAC)
	}
	s, _ := device.ParseSerial("5b154510")
	if _, err := NewBoard("9", s, device.MAC{}); err == nil || !strings.Contains(err.Error(), "3b, 3b+, 4b, 400, cm4, 5, 500, cm5") {
		t.Error(err)
	}
	if _, err := NewBoard("3b", device.Serial{}, device.MAC{}); err == nil {
		t.Error("a board without a serial")
	}
}

func FuzzParseOffer(f *testing.F) {
	b := testBoard(f, "4b", "5b154510", "", 0)
	f.Add(discover(b.stages[0].dhcp, b, 1))
	offer := bootp(b.MAC, 1)
	offer[0] = 2
	f.Add(append(offer, optType, 1, msgOffer, optVendorSpecific, byte(len(menu(bootText))), 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOffer(b, lanServer)
		if err == nil && (o.Bits < 0 || o.Bits > 32 || (o.TFTP.IsValid() && o.TFTP.String() != o.TFTPText)) {
			t.Fatalf("%+v", o)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte("\x00\x06tsize\x0012\x00blksize\x001468\x00"))
	f.Add([]byte("\x00\x06blksize\x0099999\x00"))
	f.Add([]byte("\x00\x03\x00\x01data"))
	f.Add(tftpError(1, "File not found"))
	f.Add([]byte("\x00\x06tsize"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReply(b)
		if err == nil && (r.blksize < 0 || r.blksize > 65464 || r.tsize < -1) {
			t.Fatalf("%+v", r)
		}
	})
}

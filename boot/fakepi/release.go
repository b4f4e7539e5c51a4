package fakepi

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// day is the date in a bootloader's name: pieeprom-2020-03-04.bin.
func day(text string) time.Time {
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err) // a table of ours is wrong
	}
	return d
}

// release is how the bootloader in a board's EEPROM behaves. What changed when
// is from the release notes of rpi-eeprom (firmware-2711 and firmware-2712) and
// from the issues named; what is older than the first date is not known.
type release struct {
	guid func(Board) [17]byte
	// blksize is what TFTP asks for.
	blksize int
	// rollover: the block number goes on from 65535 to 0.
	rollover bool
	// reacks: a block that comes a second time is acknowledged again.
	reacks bool
	// relayed: an answer that came by way of a relay is taken.
	relayed bool
	// exactText: only an option 43 with nothing behind the text counts.
	exactText bool
	// firstItem: only the menu's first item is looked at.
	firstItem bool
	// octets: option 66 is read wrongly when its last number is short.
	octets bool
}

// chip is a generation of boards with an EEPROM.
type chip struct {
	name          string
	first, latest time.Time
	// fourCC begins option 97 since structured.
	fourCC     func(time.Time) string
	structured time.Time
}

func bcm2711() chip {
	return chip{
		name: "Pi 4", first: day("2019-10-08"), latest: day("2026-08-19"), structured: day("2020-03-04"),
		fourCC: func(d time.Time) string {
			// The bytes of the images: swapped once, back for one release, and again.
			switch {
			case d.Before(day("2022-02-04")), !d.Before(day("2022-02-08")) && d.Before(day("2022-02-16")):
				return "RPi4"
			}
			return "4iPR"
		},
	}
}

func bcm2712() chip {
	return chip{
		name: "Pi 5", first: day("2023-09-28"), latest: day("2026-08-19"), structured: day("2020-03-04"),
		fourCC: func(d time.Time) string {
			if d.Before(day("2023-10-30")) {
				return "4iPR" // the Pi 4's, by mistake
			}
			return "5iPR"
		},
	}
}

// release is what a bootloader of a date does.
func (c chip) release(d time.Time) (release, error) {
	if d.Before(c.first) || d.After(c.latest) {
		return release{}, fmt.Errorf("a %s's bootloader of %s is not known: name a date from %s to %s",
			c.name, d.Format(time.DateOnly), c.first.Format(time.DateOnly), c.latest.Format(time.DateOnly))
	}
	since := func(text string) bool { return !d.Before(day(text)) }
	r := release{
		blksize: 1024, reacks: since("2021-02-16"), relayed: since("2020-06-12"), rollover: since("2025-09-23"),
		exactText: !since("2019-10-16"), firstItem: !since("2020-01-09"), octets: !since("2020-01-09"),
		guid: guidRepeated,
	}
	if since("2022-10-03") {
		r.blksize = 1468
	}
	if !d.Before(c.structured) {
		// The first release with it left the MAC out (rpi-eeprom issue 103).
		r.guid = guidStructured(c.fourCC(d), since("2020-03-16"))
	}
	return r, nil
}

// guidStructured is option 97 of an EEPROM since March 2020: the FourCC, the
// revision, the MAC's last four bytes, the serial.
func guidStructured(fourCC string, mac bool) func(Board) [17]byte {
	return func(b Board) [17]byte {
		var g [17]byte
		copy(g[1:5], fourCC)
		binary.LittleEndian.PutUint32(g[5:], uint32(b.Revision))
		if mac {
			copy(g[9:], b.MAC[2:])
		}
		binary.LittleEndian.PutUint32(g[13:], b.Serial.Uint32())
		return g
	}
}

// follow is how a release finds its server: option 66, else option 54 of the
// offer with the text, else siaddr.
func (r release) follow(o Offer) (choice, bool) {
	switch {
	case o.TFTP.IsValid() && r.octets && short(o.TFTPText):
		return choice{addr: garbled(o.TFTP), why: "option 66, read with a digit too many (rpi-eeprom issue 72)"}, true
	case o.TFTP.IsValid():
		return choice{addr: o.TFTP, why: "option 66"}, true
	case o.Boot && o.Server.IsValid() && (!r.exactText || o.exact) && (!r.firstItem || o.first):
		return choice{addr: o.Server, why: "option 54 beside option 43"}, true
	case o.Next.IsValid():
		return choice{addr: o.Next, why: "siaddr", weak: true}, true
	}
	return choice{}, false
}

// short says that the last number of an address has fewer than three digits.
func short(addr string) bool { return len(addr)-strings.LastIndexByte(addr, '.') < 4 }

// garbled is an address as those releases read it: 10.0.0.21 may become
// 10.0.0.214, whatever lies behind the text in memory.
func garbled(a netip.Addr) netip.Addr {
	b := a.As4()
	// Numbers over 255 wrap, as a byte does.
	b[3] = b[3]*10 + 4
	return netip.AddrFrom4(b)
}

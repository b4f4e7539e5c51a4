package dhcptest

import (
	"embed"
	"encoding/hex"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/config/device"
)

//go:embed testdata/*.hex
var testdata embed.FS

// Packet reads a reference packet of testdata: hex bytes with comments.
func Packet(t testing.TB, name string) []byte {
	t.Helper()
	text, err := testdata.ReadFile("testdata/" + name + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		for f := range strings.FieldsSeq(line) {
			digits.WriteString(f)
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Names lists the reference packets.
func Names(t testing.TB) []string {
	t.Helper()
	files, err := fs.Glob(testdata, "testdata/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no reference packets: %v", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".hex")
	}
	return files
}

// Edit is a copy of a packet with options replaced; nil data removes one.
func Edit(t testing.TB, b []byte, options map[uint8][]byte) []byte {
	t.Helper()
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	for code, data := range options {
		if data == nil {
			m.Options.Del(dhcpv4.GenericOptionCode(code))
		} else {
			m.Options[code] = data
		}
	}
	return m.ToBytes()
}

// At is a copy of a packet with bytes replaced.
func At(b []byte, offset int, with ...byte) []byte {
	b = append([]byte(nil), b...)
	copy(b[offset:], with)
	return b
}

// MAC parses an Ethernet address.
func MAC(t testing.TB, s string) device.MAC {
	t.Helper()
	m, err := device.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

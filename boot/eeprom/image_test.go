package eeprom

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// part is a section of a test's image.
type part struct {
	at    int // where it begins; 0: after the one before
	magic uint32
	name  string // of a file
	size  int
	text  string
}

// build lays out an image as Raspberry Pi's are: code, files in blocks of their
// own, padding between.
func build(size int, parts ...part) []byte {
	b := bytes.Repeat([]byte{0xff}, size)
	at := 0
	for _, p := range parts {
		if p.at > at {
			pad(b, at, p.at)
			at = p.at
		}
		body := []byte(p.text)
		if p.name != "" {
			head := make([]byte, fileLen)
			copy(head, p.name)
			body = append(head, body...)
		}
		body = append(body, bytes.Repeat([]byte{0xa5}, p.size)...)
		binary.BigEndian.PutUint32(b[at:], p.magic)
		binary.BigEndian.PutUint32(b[at+4:], uint32(len(body)))
		copy(b[at+headerLen:], body)
		at = (at + headerLen + len(body) + 7) &^ 7
	}
	return b
}

func pad(b []byte, at, end int) {
	binary.BigEndian.PutUint32(b[at:], magicPad)
	binary.BigEndian.PutUint32(b[at+4:], uint32(end-at-headerLen))
}

const factory = "[all]\nBOOT_UART=0\nBOOT_ORDER=0xf41\n"

// pi4 has its configuration last, pi5 in the first of two halves.
func pi4() []byte {
	return build(size2711, part{magic: magic, size: 73120}, part{magic: 0x55aaf44f, size: 212154},
		part{at: 0x72000, magic: magicFile, name: "cacert.der", size: 2048},
		part{at: 0x72e00, magic: magicFile, name: configName, text: factory})
}

func pi5() []byte {
	b := build(size2712, part{magic: magic, size: 25984}, part{at: 0x10000, magic: magicFile, name: "bootsys", size: 78332},
		part{at: 0xa2a00, magic: magicFile, name: "bootconf.sig", size: 1024},
		part{at: 0xa3000, magic: magicFile, name: configName, text: factory})
	end := (0xa3000 + headerLen + fileLen + len(factory) + 7) &^ 7
	pad(b, end, readOnlyLen+partitionLen)
	pad(b, readOnlyLen+partitionLen, size2712-eraseLen)
	return b
}

func TestSetConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		chip Chip
		at   int // of the configuration's section
		last bool
	}{
		{"Pi 4", pi4(), BCM2711, 0x72e00, true},
		{"Pi 5", pi5(), BCM2712, 0xa3000, false},
	} {
		for _, text := range []string{"", "[all]\nBOOT_ORDER=0xf21\n", factory + strings.Repeat("#", 2000), strings.Repeat("x", MaxConfig)} {
			before := bytes.Clone(c.data)
			img, err := Parse(bytes.Clone(c.data))
			if err != nil {
				t.Fatal(c.name, err)
			}
			if got, err := img.Config(); err != nil || got != factory {
				t.Errorf("%s: configuration %q, %v", c.name, got, err)
			}
			if img.Chip() != c.chip {
				t.Errorf("%s is for %s", c.name, img.Chip())
			}
			if err := img.SetConfig(text); err != nil {
				t.Errorf("%s: %d bytes: %v", c.name, len(text), err)
				continue
			}
			again, err := Parse(img.Bytes())
			if err != nil {
				t.Errorf("%s: after an edit: %v", c.name, err)
				continue
			}
			if got, err := again.Config(); err != nil || got != text {
				t.Errorf("%s: configuration %.40q, want %.40q, %v", c.name, got, text, err)
			}
			after := img.Bytes()
			if len(after) != len(before) || !bytes.Equal(after[:c.at], before[:c.at]) {
				t.Errorf("%s: something before the configuration has changed", c.name)
			}
			if tail := len(before) - eraseLen; !bytes.Equal(after[tail:], before[tail:]) {
				t.Errorf("%s: the bootloader's own block has changed", c.name)
			}
			if half := readOnlyLen + partitionLen; c.chip == BCM2712 && !bytes.Equal(after[half:], before[half:]) {
				t.Errorf("%s: the second half has changed", c.name)
			}
			if n := len(again.sections); (again.sections[n-1].name == configName) != c.last {
				t.Errorf("%s: the last section is %+v", c.name, again.sections[n-1])
			}
		}
	}
}

func TestBadImages(t *testing.T) {
	cut := func(at int, n uint32) []byte {
		b := pi4()
		binary.BigEndian.PutUint32(b[at:], n)
		return b
	}
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"empty", "0 bytes", nil},
		{"cut off", "1000 bytes", pi4()[:1000]},
		{"erased", "no sections", bytes.Repeat([]byte{0xff}, size2711)},
		{"something else", "no section at byte 0", bytes.Repeat([]byte("PK"), size2711/2)},
		{"too long a section", "leaves the image", cut(4, size2711)},
		{"longest section", "leaves the image", cut(4, 0xffffffff)},
		{"a file without a name", "no room for its name", cut(0x72e04, 3)},
	} {
		_, err := Parse(c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	img, err := Parse(build(size2711, part{magic: magic, size: 73120}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.Config(); err == nil {
		t.Error("an image without a configuration has one")
	}
	if err := img.SetConfig("x"); err == nil {
		t.Error("an image without a configuration takes one")
	}
	if img, err = Parse(pi4()); err != nil {
		t.Fatal(err)
	}
	if err := img.SetConfig(strings.Repeat("x", MaxConfig+1)); err == nil {
		t.Error("a configuration longer than a block is taken")
	}
}

func TestWith(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"none", "", "K=1\n"},
		{"no such key", "[all]\nA=2\n", "[all]\nA=2\nK=1\n"},
		{"replaced", "[all]\nK=7\nA=2\n", "[all]\nA=2\nK=1\n"},
		{"before any filter", "K=7\nA=2", "A=2\nK=1\n"},
		{"blanks and CRLF", "[all]\r\n K = 7\r\nA=2\r\n", "[all]\nA=2\nK=1\n"},
		{"another key's end", "[all]\nAK=7\nK2=8\n", "[all]\nAK=7\nK2=8\nK=1\n"},
		{"one board's own", "[all]\nK=7\n[0x1234abcd]\nK=5\n", "[all]\n[0x1234abcd]\nK=5\n[all]\nK=1\n"},
		{"twice", "K=7\n[all]\nK=8\n", "[all]\nK=1\n"},
		{"a comment", "#K=7\n", "#K=7\nK=1\n"},
	} {
		if got := With(c.text, "K", "1"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// FuzzParse: whatever a file holds, it is refused or can be edited.
func FuzzParse(f *testing.F) {
	// Only what is cut out of the middle varies: whole images are too long for
	// a corpus.
	f.Add([]byte{}, 0x72e00, false)
	f.Add([]byte{0x55, 0xaa, 0xf1, 0x1f, 0, 0, 0, 20}, 0x72e00, false)
	f.Add([]byte{0x55, 0xaa, 0xfe, 0xef, 0, 0, 0, 0}, 0xa3000, true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 4, true)
	f.Fuzz(func(t *testing.T, patch []byte, at int, five bool) {
		b := pi4()
		if five {
			b = pi5()
		}
		if at < 0 || at > len(b)-len(patch) {
			return
		}
		copy(b[at:], patch)
		img, err := Parse(b)
		if err != nil {
			return
		}
		if _, err := img.Config(); err != nil {
			return
		}
		const text = "[all]\nBOOT_ORDER=0xf21\n"
		if err := img.SetConfig(text); err != nil {
			return
		}
		if got, err := img.Config(); err != nil || got != text {
			t.Fatalf("configuration %q, %v", got, err)
		}
	})
}

package tftp

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden reads a packet from testdata: hex digits, blanks and lines of
// comments that begin with #.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	must(t, err)
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			digits.WriteString(strings.Join(strings.Fields(line), ""))
		}
	}
	b, err := hex.DecodeString(digits.String())
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var allowUnexported = cmp.AllowUnexported(request{}, option{}, reply{})

func TestParseGoldenRequests(t *testing.T) {
	for name, want := range map[string]request{
		"rrq-pi3-rom": {op: opRead, path: "bootcode.bin", mode: "octet"},
		"rrq-pi3-start": {
			op: opRead, path: "6c4c16aa/config.txt", mode: "octet", options: []option{{"tsize", "0"}},
		},
		"rrq-eeprom-2019": {
			op: opRead, path: "d9780558/start.elf", mode: "octet", options: []option{{"tsize", "0"}, {"blksize", "1024"}},
		},
		"rrq-eeprom-2022": {
			op: opRead, path: "5b154510/start4.elf", mode: "octet", options: []option{{"tsize", "0"}, {"blksize", "1468"}},
		},
	} {
		got, err := parseRequest(golden(t, name))
		must(t, err)
		if d := cmp.Diff(want, got, allowUnexported); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if n := len(golden(t, "rrq-eeprom-2019")); n != 48 {
		t.Errorf("the packet of 48 bytes has %d", n)
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for name, packet := range map[string]string{
		"nothing":          "",
		"one byte":         "\x00",
		"opcode only":      "\x00\x01",
		"DATA":             "\x00\x03\x00\x01abc\x00",
		"ACK":              "\x00\x04\x00\x00",
		"unknown opcode":   "\x00\x09a\x00octet\x00",
		"big opcode":       "\x01\x01a\x00octet\x00",
		"no end":           "\x00\x01a\x00octet",
		"no mode":          "\x00\x01a\x00",
		"empty mode":       "\x00\x01a\x00\x00",
		"empty path":       "\x00\x01\x00octet\x00",
		"more than enough": "\x00\x01" + strings.Repeat("a", maxRequest) + "\x00octet\x00",
	} {
		if r, err := parseRequest([]byte(packet)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r, err := parseRequest([]byte("\x00\x01a\x00OCTET\x00TSize\x000\x00blksize\x00"))
	must(t, err)
	if d := cmp.Diff(request{op: opRead, path: "a", mode: "octet", options: []option{{"tsize", "0"}}}, r, allowUnexported); d != "" {
		t.Errorf("odd case and an option without a value (-want +got):\n%s", d)
	}
	many, err := parseRequest([]byte("\x00\x01a\x00octet\x00" + strings.Repeat("x\x00y\x00", 100)))
	if err != nil || len(many.options) != maxOptions {
		t.Errorf("100 options: %d, %v", len(many.options), err)
	}
}

func TestNegotiate(t *testing.T) {
	for name, c := range map[string]struct {
		asked []option
		size  int64
		want  []option
		block int
	}{
		"none":                  {nil, 5, nil, 512},
		"tsize":                 {[]option{{"tsize", "0"}}, 5, []option{{"tsize", "5"}}, 512},
		"tsize of nothing":      {[]option{{"tsize", "0"}}, 0, []option{{"tsize", "0"}}, 512},
		"EEPROM":                {[]option{{"tsize", "0"}, {"blksize", "1468"}}, 9, []option{{"tsize", "9"}, {"blksize", "1468"}}, 1468},
		"the client's order":    {[]option{{"blksize", "1024"}, {"tsize", "0"}}, 9, []option{{"blksize", "1024"}, {"tsize", "9"}}, 1024},
		"larger than a packet":  {[]option{{"blksize", "65464"}}, 9, []option{{"blksize", "1468"}}, 1468},
		"smaller than we do":    {[]option{{"blksize", "8"}}, 9, nil, 512},
		"no number":             {[]option{{"blksize", "many"}}, 9, nil, 512},
		"negative":              {[]option{{"blksize", "-1468"}}, 9, nil, 512},
		"windowsize, timeout":   {[]option{{"windowsize", "16"}, {"timeout", "1"}}, 9, nil, 512},
		"twice":                 {[]option{{"blksize", "600"}, {"blksize", "700"}}, 9, []option{{"blksize", "600"}}, 600},
		"a tsize that's absurd": {[]option{{"tsize", "-99999999999999999999"}}, 9, []option{{"tsize", "9"}}, 512},
	} {
		answer, block := negotiate(c.asked, c.size, 1500-blockOverhead)
		if d := cmp.Diff(c.want, answer, allowUnexported); d != "" || block != c.block {
			t.Errorf("%s: block %d, want %d (-want +got):\n%s", name, block, c.block, d)
		}
	}
	if _, block := negotiate([]option{{"blksize", "1468"}}, 1, 100); block != blockDefault {
		t.Errorf("block on a link with tiny packets: %d", block)
	}
}

func TestPackGolden(t *testing.T) {
	for name, got := range map[string][]byte{
		"oack":      packOAck([]option{{"tsize", "2250016"}, {"blksize", "1468"}}),
		"not-found": packError(codeNotFound, "File not found"),
	} {
		if d := cmp.Diff(golden(t, name), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	for name, want := range map[string]reply{
		"ack-0":           {op: opAck},
		"early-terminate": {op: opError, message: "Early terminate"},
	} {
		got, ok := parseReply(golden(t, name))
		if d := cmp.Diff(want, got, allowUnexported); d != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", name, ok, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.hex")
	must(f, err)
	for _, name := range files {
		f.Add(golden(f, strings.TrimSuffix(filepath.Base(name), ".hex")))
	}
	f.Add([]byte("\x00\x02a\x00netascii\x00"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if r, err := parseRequest(packet); err == nil {
			if r.path == "" || strings.Contains(r.path, "\x00") || len(r.options) > maxOptions || len(packet) > maxRequest {
				t.Fatalf("%+v", r)
			}
			answer, block := negotiate(r.options, 1<<40, 1468)
			if block < blockDefault || block > 1468 || len(answer) > 2 || len(packOAck(answer)) > maxReply {
				t.Fatalf("block %d, answer %v", block, answer)
			}
		}
		if r, ok := parseReply(packet); ok && len(r.message) > 128 {
			t.Fatalf("%+v", r)
		}
	})
}

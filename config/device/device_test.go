package device

import "testing"

func TestParseSerial(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"eight":               {"5b154510", "5b154510"},
		"upper":               {"5B154510", "5b154510"},
		"sixteen":             {"100000009FFEFDEF", "9ffefdef"},
		"all digits":          {"12345678", "12345678"},
		"leading zeros":       {"00123456", "00123456"},
		"looks like a float":  {"10000e12", "10000e12"},
		"seven":               {"5b15451", ""},
		"not hex":             {"5b15451g", ""},
		"sign":                {"+5b15451", ""},
		"underscore":          {"5b_15451", ""},
		"path":                {"../../ab", ""},
		"zero":                {"00000000", ""},
		"sixteen, low zero":   {"1000000000000000", ""},
		"empty":               {"", ""},
		"multi-byte runes":    {"5b1545é", ""},
		"sixteen, bad prefix": {"zz0000009ffefdef", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSerial(c.in)
			if (err != nil) != (c.want == "") || s.String() != c.want {
				t.Fatalf("ParseSerial(%q) = %q, %v; want %q", c.in, s, err, c.want)
			}
		})
	}
}

func TestPiMAC(t *testing.T) {
	s, err := ParseSerial("b66c4c16")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.PiMAC().String(); got != "b8:27:eb:6c:4c:16" {
		t.Fatalf("PiMAC = %s", got)
	}
}

func TestParseMAC(t *testing.T) {
	for in, ok := range map[string]bool{
		"b8:27:eb:12:34:56": true, "B8-27-EB-12-34-56": true, "b827.eb12.3456": false,
		"00:00:00:00:00:00": false, "ff:ff:ff:ff:ff:ff": false, "01:00:5e:00:00:01": false,
		"b8:27:eb:12:34": false, "": false,
	} {
		if _, err := ParseMAC(in); (err == nil) != ok {
			t.Errorf("ParseMAC(%q): %v", in, err)
		}
	}
}

func TestRevision(t *testing.T) {
	for code, want := range map[Revision]string{
		0xa03111: "4B 1.1 1 GiB", 0xd03114: "4B 1.4 8 GiB", 0xa02082: "3B 1.2 1 GiB", 0xa020d3: "3B+ 1.3 1 GiB",
		0xc03111: "4B 1.1 4 GiB", 0xb03140: "CM4 1.0 2 GiB", 0xb04170: "5 1.0 2 GiB", 0xc04170: "5 1.0 4 GiB",
		0xc03130: "400 1.0 4 GiB", 0xd04180: "CM5 1.0 8 GiB", 0xd04190: "500 1.0 8 GiB", 0xd041a0: "CM5 Lite 1.0 8 GiB",
		0xa22042: "2B 1.2 1 GiB", 0x2a03111: "4B 1.1 1 GiB", 0x900050: "Alpha 1.0 512 MiB",
		0xd04170: "5 1.0 8 GiB", 0xe04171: "5 1.1 16 GiB", 0x900021: "A+ 1.1 512 MiB", 0x0015: "revision 000015",
	} {
		if got := code.String(); got != want {
			t.Errorf("%06x = %q, want %q", uint32(code), got, want)
		}
	}
}

func FuzzParseSerial(f *testing.F) {
	for _, s := range []string{"5b154510", "100000009ffefdef", "", "../../ab"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSerial(in)
		if err != nil {
			return
		}
		if again, err := ParseSerial(s.String()); err != nil || again != s {
			t.Fatalf("%q -> %q -> %v, %v", in, s, again, err)
		}
	})
}

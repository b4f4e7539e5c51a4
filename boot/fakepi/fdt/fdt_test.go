package fdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os/exec"
	"reflect"
	"testing"
)

// source is a small tree in the compiler's language.
const source = `/dts-v1/;
/memreserve/ 0x0000000000000000 0x0000000000001000;
/ {
	compatible = "raspberrypi,3-model-b", "brcm,bcm2837";
	#address-cells = <1>;
	aliases { ethernet0 = "/soc/usb@7e980000/eth"; };
	chosen { stdout-path = "serial1:115200n8"; };
	soc { #address-cells = <1>; usb@7e980000 { compatible = "x"; odd = [01 02 03]; eth { }; }; };
};
`

func sample() *Tree {
	t := &Tree{Root: &Node{}, Reserved: []Reservation{{0, 0x1000}}}
	t.Root.SetString("compatible", "raspberrypi,3-model-b")
	t.Make("/chosen").Set("rng-seed", []byte{1, 2, 3, 4, 5})
	t.Make("/soc/usb@7e980000/eth").Set("empty", nil)
	return t
}

// dtc runs the device tree compiler, which is in the package of that name.
func dtc(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("dtc", append([]string{"-q"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dtc (package device-tree-compiler): %v", err)
	}
	return out
}

// TestCompilersBlob: what the compiler makes is read, changed and written so
// that it reads back the same but for the change.
func TestCompilersBlob(t *testing.T) {
	blob := dtc(t, []byte(source), "-O", "dtb")
	tree, err := Parse(blob)
	if err != nil {
		t.Fatal(err)
	}
	asSource := func(b []byte) string { return string(dtc(t, b, "-I", "dtb", "-O", "dts")) }
	if got, want := asSource(tree.Encode()), asSource(blob); got != want {
		t.Fatalf("unchanged it came back as\n%s\nwant\n%s", got, want)
	}
	tree.Root.SetString("serial-number", "0000000012345678")
	tree.Make("/chosen").Set("kaslr-seed", []byte{0, 1, 2, 3, 4, 5, 6, 7})
	got := asSource(tree.Encode())
	for _, want := range []string{`serial-number = "0000000012345678";`, `kaslr-seed = <0x10203 0x4050607>;`, `odd = [01 02 03]`} {
		if !bytes.Contains([]byte(got), []byte(want)) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	want := sample()
	got, err := Parse(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), want.Encode()) || !reflect.DeepEqual(got.Reserved, want.Reserved) {
		t.Fatal("differs")
	}
	if v, ok := got.Find("/chosen").Get("rng-seed"); !ok || !bytes.Equal(v, []byte{1, 2, 3, 4, 5}) {
		t.Fatalf("rng-seed %x, %v", v, ok)
	}
	if got.Find("/soc/none") != nil || got.Find("/") != got.Root {
		t.Fatal("Find")
	}
}

func TestRefused(t *testing.T) {
	good := sample().Encode()
	patch := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b[at:], v)
		return b
	}
	deep := &Tree{Root: &Node{}}
	for n, i := deep.Root, 0; i < 100; i++ {
		c := &Node{Name: "n"}
		n.Children = []*Node{c}
		n = c
	}
	for name, b := range map[string][]byte{
		"empty": nil, "magic": patch(0, 1), "cut": good[:len(good)-1], "longer than said": patch(4, 1<<30),
		"structure outside": patch(8, 1<<31), "strings outside": patch(12, 0xffffffff), "reservations outside": patch(16, 1<<20),
		"version 3": patch(20, 3), "a future version": patch(24, 99), "structure cut": patch(36, 8), "too deep": deep.Encode(),
	} {
		if _, err := Parse(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().Encode())
	f.Add((&Tree{Root: &Node{}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(tree.Encode())
		if err != nil || !bytes.Equal(again.Encode(), tree.Encode()) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}

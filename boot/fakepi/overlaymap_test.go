package fakepi

import (
	"testing"

	"rubus/boot/fakepi/fdt"
)

// mapOf makes a map as Raspberry Pi's kernel has it.
func mapOf() []byte {
	t := &fdt.Tree{Root: &fdt.Node{}}
	vc4 := t.Make("/vc4-kms-v3d")
	vc4.Set("bcm2835", nil)
	vc4.SetString("bcm2711", "vc4-kms-v3d-pi4")
	vc4.SetString("bcm2712", "vc4-kms-v3d-pi5")
	t.Make("/uart5").Set("bcm2711", nil)
	t.Make("/pi3-disable-bt").SetString("renamed", "disable-bt")
	t.Make("/lirc-rpi").SetString("deprecated", "use gpio-ir")
	return t.Encode()
}

func TestOverlayMap(t *testing.T) {
	tree, err := fdt.Parse(mapOf())
	if err != nil {
		t.Fatal(err)
	}
	m := overlayMap{tree}
	for _, c := range []struct {
		overlay   string
		processor byte
		name, why string
	}{
		{"vc4-kms-v3d", 2, "vc4-kms-v3d", ""},
		{"vc4-kms-v3d", 3, "vc4-kms-v3d-pi4", ""},
		{"vc4-kms-v3d", 4, "vc4-kms-v3d-pi5", ""},
		{"uart5", 3, "uart5", ""},
		{"uart5", 4, "", "not for bcm2712"},
		{"uart5", 0, "", "not for bcm2835"},
		{"pi3-disable-bt", 2, "disable-bt", ""},
		{"lirc-rpi", 3, "", "deprecated: use gpio-ir"},
		{"gpio-ir", 3, "gpio-ir", ""},
	} {
		name, why := m.name(c.overlay, c.processor)
		if name != c.name || why != c.why {
			t.Errorf("%s on %d: %q, %q", c.overlay, c.processor, name, why)
		}
	}
	if name, why := (overlayMap{}).name("uart5", 2); name != "uart5" || why != "" {
		t.Errorf("without a map: %q, %q", name, why)
	}
}

package fakepi

import (
	"bytes"
	"context"

	"rubus/boot/fakepi/fdt"
)

// overlayMap is overlays/overlay_map.dtb: a node for each overlay whose name
// is another on some boards (arch/arm/boot/dts/overlays/README of Raspberry
// Pi's kernel, "The Overlay Map"). nil: there is none.
type overlayMap struct{ tree *fdt.Tree }

const overlayMapFile = "overlays/overlay_map.dtb"

// readOverlayMap reads the map; only Raspberry Pi's kernels bring one.
func (r *run) readOverlayMap(ctx context.Context) error {
	data, err := r.get(ctx, r.prefixed(overlayMapFile), false, true)
	if err != nil {
		return passOver(ctx, err)
	}
	tree, err := fdt.Parse(data)
	if err != nil {
		r.note("%s is no device tree: it is passed over (%v)", overlayMapFile, err)
		return nil
	}
	r.boot.overlayMap = overlayMap{tree}
	return nil
}

// name is what an overlay is called on a board with a processor of a revision
// code; why says, when it is "", that the overlay is not for it.
func (m overlayMap) name(overlay string, processor byte) (name, why string) {
	if m.tree == nil {
		return overlay, ""
	}
	node := m.tree.Find("/" + overlay)
	if node == nil {
		return overlay, ""
	}
	if text, ok := node.Get("renamed"); ok {
		return textOf(text), ""
	}
	if text, ok := node.Get("deprecated"); ok {
		return "", "deprecated: " + textOf(text)
	}
	platforms := []string{"bcm2835", "bcm2835", "bcm2835", "bcm2711", "bcm2712"}
	platform := platforms[min(int(processor), len(platforms)-1)]
	text, ok := node.Get(platform)
	switch {
	case !ok:
		return "", "not for " + platform
	case textOf(text) == "":
		return overlay, ""
	}
	return textOf(text), ""
}

// textOf is a property's first string.
func textOf(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

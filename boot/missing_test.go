package boot_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot"
	"rubus/boot/sighting"
	"rubus/images/importer"
	"rubus/overlay"
)

// TestMissingLayer: what stands on a layer that is gone says which, and is there when the
// layer is. Nothing of the board's changes meanwhile.
func TestMissingLayer(t *testing.T) {
	l := newLab(t)
	x := l.boots(serialA, macA, addrA)
	l.put(x, "mine", "first")
	_, err := l.fleet.Snapshot(t.Context(), serialA, "asked for", nil)
	must(t, err)
	l.put(x, "mine", "second")
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, l.fleet.Reset(t.Context(), serialA, boot.ResetOptions{}))
	all, err := l.fleet.Snapshots(serialA)
	must(t, err)
	if len(all) != 2 || !all[1].SetAside || all[0].SetAside {
		t.Fatalf("snapshots %+v", all)
	}
	digest := all[0].Base.Digests[0]
	dir := filepath.Dir(l.store.LayerDir(digest))
	must(t, os.Rename(dir, dir+".gone"))

	says := func(what string, err error) {
		t.Helper()
		var missing *overlay.MissingLayersError
		if !errors.As(err, &missing) || len(missing.Digests) != 1 || missing.Digests[0] != digest || errors.Is(err, boot.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
		if text := strings.ReplaceAll(err.Error(), `"`, ""); !strings.Contains(text, "lab@1: layer "+digest[:12]+" is missing") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, s := range all {
		says(s.Note, l.fleet.Restore(t.Context(), serialA, s.N, nil))
	}
	if again, err := l.fleet.Snapshots(serialA); err != nil || len(again) != 2 || len(l.litter()) > 0 {
		t.Errorf("snapshots %+v, left behind %q: %v", again, l.litter(), err)
	}

	// The same files, imported again, are the same layer in another place: what was copied is
	// bound to its content, what was set aside to the very directory.
	_, _, err = importer.Import(t.Context(), l.store, "lab", filepath.Join(dir+".gone", "tree"), importer.Options{})
	must(t, err)
	must(t, l.fleet.Restore(t.Context(), serialA, all[0].N, nil))
	y := l.boots(serialA, macA, addrA)
	if l.read(y, "mine") != "first" {
		t.Errorf("the board has %q", l.read(y, "mine"))
	}
	must(t, l.fleet.Stop(t.Context(), serialA))
	if err := l.fleet.Restore(t.Context(), serialA, all[1].N, nil); !errors.Is(err, overlay.ErrOtherBase) {
		t.Errorf("what was set aside, over another directory: %v", err)
	}
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, os.RemoveAll(dir))
	must(t, os.Rename(dir+".gone", dir))
	must(t, l.fleet.Restore(t.Context(), serialA, all[1].N, nil))
	if y = l.boots(serialA, macA, addrA); l.read(y, "mine") != "second" {
		t.Errorf("the board has %q", l.read(y, "mine"))
	}

	// A board that stands on it says the same, and has its writes when the layer is back.
	must(t, l.fleet.Stop(t.Context(), serialA))
	must(t, os.Rename(dir, dir+".gone"))
	l.restart()
	l.fleet.Sight(sighting.Sighting{Serial: serialA, MAC: macA, Stage: "eeprom"})
	_, err = l.file(serialA.String()+"/start.elf", addrA)
	says("a boot", err)
	must(t, os.Rename(dir+".gone", dir))
	if y = l.boots(serialA, macA, addrA); l.read(y, "mine") != "second" {
		t.Errorf("the board has %q", l.read(y, "mine"))
	}
}

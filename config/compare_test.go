package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rubus/config/device"
)

func TestCompare(t *testing.T) {
	parse := func(text string) *Snapshot {
		t.Helper()
		s, err := Parse(File{}, File{Name: "devices.yaml", Data: []byte("version: 1\ndefaults: {image: lab}\n" + text)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := parse("devices:\n- serial: 00000001\n- serial: 00000002\n- {serial: 00000003, cmdline: [a b]}\n")
	after := parse("# moved down a line\ndevices:\n- serial: 00000002\n- {serial: 00000003, cmdline: [a, b]}\n- serial: 00000004\n")
	of := func(n uint32) device.Serial { s, _ := device.SerialFromUint32(n); return s }
	want := Changes{Added: []device.Serial{of(4)}, Removed: []device.Serial{of(1)}, Changed: []device.Serial{of(3)}}
	if d := cmp.Diff(want, Compare(before, after), cmpopts.EquateComparable(device.Serial{})); d != "" {
		t.Error(d)
	}
}

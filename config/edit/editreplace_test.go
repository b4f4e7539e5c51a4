package edit

import (
	"strings"
	"testing"

	"rubus/config/device"
)

func TestReplaceDevice(t *testing.T) {
	parse := func(s string) device.Serial {
		n, err := device.ParseSerial(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const text = `version: 1
devices:
  # the one by the window
  - serial: 5b154510 # bought in May
    name: bench-01
    mac: dc:a6:32:00:00:01
    address: 10.0.0.7
    image: lab
  - {serial: "00000002", image: lab}
`
	edit := ReplaceDevice(parse("5b154510"), parse("b8123456"))
	after, err := edit("devices.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Replace(text, "5b154510", "b8123456", 1), "    mac: dc:a6:32:00:00:01\n", "", 1)
	if string(after) != want {
		t.Errorf("got:\n%s\nwant:\n%s", after, want)
	}
	again, err := edit("devices.yaml", after)
	if err != nil || string(again) != want {
		t.Errorf("again: %v\n%s", err, again)
	}
	if _, err := ReplaceDevice(parse("5b154510"), parse("00000002"))("devices.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("by a board that is there: %v", err)
	}
	if _, err := ReplaceDevice(parse("00000009"), parse("b8123456"))("devices.yaml", []byte(text)); err == nil {
		t.Error("a board that is not there was replaced")
	}
}

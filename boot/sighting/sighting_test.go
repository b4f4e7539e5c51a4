package sighting

import (
	"slices"
	"testing"
	"time"

	"rubus/config/device"
)

func mac(n byte) device.MAC { return device.MAC{0x02, 0, 0, 0, 0, n} }

func serial(t testing.TB, s string) device.Serial {
	t.Helper()
	out, err := device.ParseSerial(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A full list loses those that asked once before those that asked again, and of
// these the one not seen for longest.
func TestList(t *testing.T) {
	for name, c := range map[string]struct {
		asked []byte // a board each second, in a list of three
		want  []byte
		isNew []bool
	}{
		"there is room":             {[]byte{1, 2, 3}, []byte{1, 2, 3}, []bool{true, true, true}},
		"one that asks again":       {[]byte{1, 2, 1}, []byte{1, 2}, []bool{true, true, false}},
		"the first of those once":   {[]byte{1, 2, 3, 4}, []byte{2, 3, 4}, []bool{true, true, true, true}},
		"not one that asked again":  {[]byte{1, 1, 2, 3, 4}, []byte{1, 3, 4}, []bool{true, false, true, true, true}},
		"a flood pushes out itself": {[]byte{1, 2, 1, 2, 3, 4, 5, 6, 7}, []byte{1, 2, 7}, []bool{true, true, false, false, true, true, true, true, true}},
		"all asked again: the one not seen for longest": {
			[]byte{1, 2, 3, 2, 3, 1, 4},
			[]byte{1, 3, 4},
			[]bool{true, true, true, false, false, false, true},
		},
		"one that was pushed out is new": {[]byte{1, 2, 3, 4, 1}, []byte{1, 3, 4}, []bool{true, true, true, true, true}},
	} {
		l := New(3)
		t0 := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		var isNew []bool
		for i, n := range c.asked {
			isNew = append(isNew, l.Note(Sighting{MAC: mac(n)}, t0.Add(time.Duration(i)*time.Second)))
		}
		var got []byte
		for u := range l.All() {
			got = append(got, u.MAC[5])
			if !l.Has(u.MAC) {
				t.Errorf("%s: the list has not what it lists", name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) || !slices.Equal(isNew, c.isNew) || l.Has(mac(99)) {
			t.Errorf("%s: the list has %v, want %v; new were %v", name, got, c.want, isNew)
		}
	}
}

// What a board said at each of its requests comes together.
func TestNote(t *testing.T) {
	l := New(1)
	t0 := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := serial(t, "c0ffee01")
	l.Note(Sighting{MAC: mac(1), Stage: "rom", Hint: true}, t0)
	l.Note(Sighting{MAC: mac(1), Stage: "eeprom", Serial: s, Revision: 0xc03111, Bootloader: "of 2023"}, t0.Add(time.Second))
	l.Note(Sighting{MAC: mac(1), Stage: "system"}, t0.Add(2*time.Second))
	want := Unknown{
		Sighting: Sighting{MAC: mac(1), Stage: "system", Serial: s, Revision: 0xc03111, Bootloader: "of 2023", Hint: true},
		First:    t0, Last: t0.Add(2 * time.Second), Times: 3,
	}
	for u := range l.All() {
		if u != want {
			t.Errorf("the list has\n%+v, want\n%+v", u, want)
		}
		u.Times = 99 // a copy
		break
	}
	for u := range l.All() {
		if u.Times != 3 {
			t.Error("who looks at the list changes it")
		}
	}
}

func TestLearn(t *testing.T) {
	a, b := serial(t, "c0ffee01"), serial(t, "c0ffee02")
	known := Sighting{Serial: a, MAC: mac(1), Revision: 1, Stage: "rom", Bootloader: "old"}
	for name, c := range map[string]struct{ says, want Sighting }{
		"nothing":          {Sighting{}, known},
		"a serial":         {Sighting{Serial: b}, Sighting{Serial: b, MAC: mac(1), Revision: 1, Stage: "rom", Bootloader: "old"}},
		"a revision":       {Sighting{Revision: 2}, Sighting{Serial: a, MAC: mac(1), Revision: 2, Stage: "rom", Bootloader: "old"}},
		"its bootloader":   {Sighting{Bootloader: "new"}, Sighting{Serial: a, MAC: mac(1), Revision: 1, Stage: "rom", Bootloader: "new"}},
		"another MAC":      {Sighting{MAC: mac(2)}, known}, // the list is by MAC
		"what asks is new": {Sighting{Stage: "eeprom"}, known},
	} {
		got := known
		if got.Learn(c.says); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

package record

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readRecord(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "records", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The files are what rubus of that format wrote; they are not to be edited.
func TestFormats(t *testing.T) {
	today, err := Decode(readRecord(t, "format-3.json"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := today.Encode(); err != nil || string(b) != string(readRecord(t, "format-3.json")) {
		t.Errorf("today's format is not written as it was read: %s, %v", b, err)
	}
	today.Move, today.Slots[0].Aside = nil, "" // what the earlier ones have no word for
	for _, name := range []string{"format-1.json", "format-2.json"} {
		old, err := Decode(readRecord(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(today, old, comparable()); d != "" {
			t.Errorf("%s is read as something else (-3 +%s): %s", name, name, d)
		}
	}
}

func TestBadRecords(t *testing.T) {
	good := string(readRecord(t, "format-3.json"))
	for name, c := range map[string]struct{ old, new, want string }{
		"torn":                 {good[len(good)/2:], "", "unexpected end"},
		"of a later version":   {`"version": 3`, `"version": 4`, "format 4; this rubus knows 1 to 3"},
		"of no version":        {`"version": 3`, `"version": 0`, "format 0"},
		"two current roots":    {`"state": "parked"`, `"state": "current"`, "2 slots are current"},
		"an unknown state":     {`"state": "parked"`, `"state": "asleep"`, `unknown state "asleep"`},
		"a number used twice":  {`"n": 2`, `"n": 1`, "slot 1 is there twice"},
		"a number to come":     {`"last_slot": 3`, `"last_slot": 2`, "above the last one"},
		"a path for a base":    {`"id": "56209cafd31cd336"`, `"id": "../../../../home"`, "16 hex digits"},
		"an export used twice": {`"b31b54960ce6da3f"`, `"08d60e6bf90015a1"`, "no export of its own"},
		"a layer without root": {`"roots": [`, `"no_roots": [`, "1 layers with 0 roots"},
		"no version":           {`"image": "lab@3"`, `"image": "lab"`, "no version"},
		"an unknown move":      {`"state": "good"`, `"state": "fine"`, `unknown state "fine"`},
		"a move from nowhere":  {`"former": 1`, `"former": 9`, "slot 9, which is not there"},
		"a move to itself":     {`"former": 1`, `"former": 3`, "to itself"},
		"a move to no version": {`"to": "lab@4"`, `"to": "lab"`, "to no version"},
		"no serial":            {`"serial": "5b154510"`, `"serial": ""`, "serial"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, c.old, c.new, 1)
			if bad == good {
				t.Fatal("the case changes nothing")
			}
			r, err := Decode([]byte(bad))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v; want an error with %q", r, err, c.want)
			}
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, name := range []string{"format-1.json", "format-2.json", "format-3.json"} {
		b := readRecord(f, name)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte(`{"version":2,"serial":"5b154510","up":true,"last_slot":0,"slots":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		once, err := r.Encode()
		if err != nil {
			return // a time that JSON has no word for: years above 9999
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, once)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: written as\n%s\nand then as\n%s", err, once, twice)
		}
		if !json.Valid(once) || again.Version != Version {
			t.Fatalf("written as %s", once)
		}
	})
}

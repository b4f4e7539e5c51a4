package imageref

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]Ref{
		"lab": {"lab", 0}, "lab@3": {"lab", 3}, "rpi-os.12_x@10": {"rpi-os.12_x", 10}, "3@3": {"3", 3},
		"": {}, "@3": {}, "lab@": {}, "lab@0": {}, "lab@03": {}, "lab@-1": {}, "lab@+1": {}, "lab@3@4": {}, "Lab": {}, "../x": {}, ".x": {}, "a/b": {},
		"lab@99999999999": {}, strings.Repeat("a", MaxName+1): {},
	} {
		got, err := Parse(in)
		if got != want || (err == nil) != (want != Ref{}) {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("lab@3")
	f.Add("..@1")
	f.Fuzz(func(t *testing.T, in string) {
		r, err := Parse(in)
		if err == nil && r.String() != in {
			t.Fatalf("%q -> %q", in, r)
		}
	})
}

package overlay

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rubus/config/device"
)

func serial(t testing.TB, s string) device.Serial {
	t.Helper()
	n, err := device.ParseSerial(s)
	must(t, err)
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPlan(t *testing.T) {
	base := Base{ID: "0123456789abcdef", Digests: []string{"a", "b"}}
	good := Spec{
		Serial: serial(t, "5b154510"), Base: base, LayerDirs: []string{"/l/a", "/l/b,c:d"},
		UpperDir: "/d/5b154510/uppers/u", UpperID: MakeUpperID(base.ID, 2), Target: "/roots/5b154510/",
	}
	m, err := Plan(good)
	must(t, err)
	want := MountPlan{
		Source: "rubus:5b154510:0123456789abcdef:0123456789abcdef.2", Target: "/roots/5b154510",
		Lower: []string{"/l/b,c:d", "/l/a"}, Upper: "/d/5b154510/uppers/u/upper", Work: "/d/5b154510/uppers/u/work",
		Options: []Option{{"index", "on"}, {"nfs_export", "on"}, {"redirect_dir", "on"}, {"metacopy", "off"}},
	}
	if d := cmp.Diff(want, m); d != "" {
		t.Errorf("plan (-want +got):\n%s", d)
	}
	root, ok := parseSource(m.Source)
	if !ok || root.Serial != good.Serial || root.BaseID != base.ID || root.UpperID != good.UpperID {
		t.Errorf("parseSource(%q) = %+v, %v", m.Source, root, ok)
	}

	for name, change := range map[string]func(*Spec){
		"no serial":              func(s *Spec) { s.Serial = device.Serial{} },
		"no layers":              func(s *Spec) { s.LayerDirs = nil },
		"too many layers":        func(s *Spec) { s.LayerDirs = make([]string, 501) },
		"fewer layers than base": func(s *Spec) { s.LayerDirs = s.LayerDirs[:1] },
		"upper of another base":  func(s *Spec) { s.UpperID = MakeUpperID("fedcba9876543210", 1) },
		"relative layer":         func(s *Spec) { s.LayerDirs = []string{"/l/a", "b"} },
		"relative target":        func(s *Spec) { s.Target = "r" },
		"relative upper":         func(s *Spec) { s.UpperDir = "" },
	} {
		s := good
		change(&s)
		if m, err := Plan(s); err == nil {
			t.Errorf("%s: planned %+v", name, m)
		}
	}
}

func TestParseSource(t *testing.T) {
	for _, s := range []string{
		"", "overlay", "rubus", "rubus:::", "rubus:5b154510:0123456789abcdef:fedcba9876543210.1",
		"rubus:5B154510:0123456789abcdef:0123456789abcdef.1", "rubus:5b154510:0123456789abcdef:0123456789abcdef.1:",
		"rubus:100000005b154510:0123456789abcdef:0123456789abcdef.1", "other:5b154510:0123456789abcdef:0123456789abcdef.1",
	} {
		if r, ok := parseSource(s); ok {
			t.Errorf("parseSource(%q) = %+v", s, r)
		}
	}
}

func TestUpperID(t *testing.T) {
	id, err := ParseUpperID("0123456789abcdef.12")
	if err != nil || id.Base() != "0123456789abcdef" || id.N() != 12 {
		t.Errorf("%q, %v", id, err)
	}
	for _, s := range []string{
		"", ".", "0123456789abcdef", "0123456789abcdef.", "0123456789abcdef.0", "0123456789abcdef.-1", "0123456789abcdef.01",
		"0123456789abcdef.+1", "0123456789ABCDEF.1", "0123456789abcde.1", "../../../abcdefg.1", "0123456789abcdef.1/..",
	} {
		if id, err := ParseUpperID(s); err == nil {
			t.Errorf("ParseUpperID(%q) = %q", s, id)
		}
	}
}

func TestBaseMatches(t *testing.T) {
	base := func(digests, roots string) Base {
		d := strings.Fields(digests)
		return Base{ID: baseID(d), Digests: d, Roots: strings.Fields(roots)}
	}
	then := base("a b", "f:1:aa f:1:bb")
	for name, c := range map[string]struct {
		now Base
		err string
	}{
		"the same":            {base("a b", "f:1:aa f:1:bb"), ""},
		"no UUID to compare":  {base("a b", "-:1:aa f:1:bb"), ""},
		"one layer more":      {base("a b c", "f:1:aa f:1:bb f:1:cc"), "it has 3 layers"},
		"another digest":      {base("a c", "f:1:aa f:1:bb"), "layer 2 is c, it was b"},
		"another order":       {base("b a", "f:1:bb f:1:aa"), "layer 1 is b"},
		"restored directory":  {base("a b", "f:1:aa f:1:xx"), "layer 2 (b)"},
		"another file system": {base("a b", "g:1:aa g:1:bb"), "layer 1 (a)"},
		"handle type":         {base("a b", "f:2:aa f:1:bb"), "layer 1 (a)"},
		"nothing recorded":    {base("a b", ""), "roots recorded"},
	} {
		err := then.Matches(c.now)
		if c.err == "" && err == nil {
			continue
		}
		if !errors.Is(err, ErrOtherBase) || c.err == "" || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
	}
	if base("a b", "").ID == base("ab", "").ID || base("a b", "").ID == base("b a", "").ID {
		t.Error("different stacks have one id")
	}
}

func TestUnescapeOctal(t *testing.T) {
	for in, want := range map[string]string{
		`/a\040b\054c\134d`: `/a b,c\d`, `/plain`: `/plain`, `\`: `\`, `\04`: `\04`, `\0400`: " 0", `\999`: `\999`, "": "",
	} {
		if got := unescapeOctal(in); got != want {
			t.Errorf("unescapeOctal(%q) = %q, want %q", in, got, want)
		}
	}
}

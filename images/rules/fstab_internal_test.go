package rules

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutDisks(t *testing.T) {
	const off = "# on the card: "
	for name, c := range map[string]struct {
		line string
		gone bool
	}{
		"the root":               {"PARTUUID=5e3da3da-02 / ext4 defaults,noatime 0 1", true},
		"the root, nofail":       {"UUID=1 / ext4 nofail 0 1", true},
		"the boot partition":     {"LABEL=bootfs /boot/firmware vfat defaults,nofail 0 2", true},
		"a device":               {"/dev/mmcblk0p1 /boot vfat defaults 0 2", true},
		"swap on a file":         {"/swapfile none swap sw 0 0", true},
		"a disk":                 {"LABEL=data /srv ext4 defaults 0 2", true},
		"a disk that may be off": {"LABEL=data /srv ext4 defaults,nofail 0 2", false},
		"proc":                   {"proc /proc proc defaults 0 0", false},
		"the root on NFS":        {"/dev/nfs / nfs defaults 0 0", false},
		"a bind":                 {"/boot/firmware /boot/firmware none bind 0 0", false},
		"a share":                {"10.0.0.1:/x /x nfs defaults 0 0", false},
		"tmpfs":                  {"tmpfs /tmp tmpfs nosuid 0 0", false},
		"a comment":              {"#UUID=1 / ext4 defaults 0 1", false},
		"half a line":            {"UUID=1 /", false},
		"nothing":                {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.line
			if c.gone {
				want = off + want
			}
			for _, end := range []string{"", "\n"} {
				got := withoutDisks([]byte(c.line + end))
				if string(got) != want+end {
					t.Errorf("%q, want %q", got, want+end)
				}
				if again := withoutDisks(got); !slices.Equal(got, again) {
					t.Errorf("once more: %q", again)
				}
			}
		})
	}
}

func TestParseCapability(t *testing.T) {
	for name, c := range map[string]struct {
		attr string
		want []string
	}{
		"ping":        {"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", []string{"cap_net_raw"}},
		"two words":   {"\x01\x00\x00\x02\x00\x10\x00\x00\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00", []string{"cap_net_admin", "cap_bpf"}},
		"inheritable": {"\x00\x00\x00\x02\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", []string{"cap_chown"}},
		"namespaced":  {"\x01\x00\x00\x03\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00", []string{"cap_net_raw"}},
		"revision 1":  {"\x01\x00\x00\x01\x00\x20\x00\x00\x00\x00\x00\x00", []string{"cap_net_raw"}},
		"a new one":   {"\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x00\x00\x00\x00", []string{"cap_63"}},
		"none":        {"\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", []string{}},
		"cut off":     {"\x01\x00\x00\x02\x00\x20", nil},
		"empty":       {"", nil},
		"revision 9":  {"\x01\x00\x00\x09\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseCapability([]byte(c.attr))
			if (err != nil) != (c.want == nil) {
				t.Errorf("error %v", err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func FuzzParseCapability(f *testing.F) {
	for _, s := range []string{"", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x01\x00\x20\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\x03"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if names, err := parseCapability(b); err == nil && (len(names) > 64 || len(b) > 24) {
			t.Errorf("%d names of %d bytes", len(names), len(b))
		}
	})
}

func TestParse(t *testing.T) {
	for name, text := range map[string]string{
		"an unknown key":     "rule: {}",
		"an unknown rule":    "packs: [{family: a, release: b, rules: [x]}]",
		"no reason":          "rules: {x: {steps: [{hide: [/a]}]}}\npacks: [{family: a, release: b, rules: [x]}]",
		"no step":            "rules: {x: {why: y}}\npacks: [{family: a, release: b, rules: [x]}]",
		"two things":         "rules: {x: {why: y, steps: [{hide: [/a], fstab: true}]}}\npacks: [{family: a, release: b, rules: [x]}]",
		"a relative path":    "rules: {x: {why: y, steps: [{hide: [a]}]}}\npacks: [{family: a, release: b, rules: [x]}]",
		"an unknown policy":  "policies: {ping: suid-root}",
		"a file that is not": "rules: {x: {why: y, steps: [{file: {path: /a, from: none}}]}}\npacks: [{family: a, release: b, rules: [x]}]",
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

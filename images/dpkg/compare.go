package dpkg

import (
	"slices"
	"strings"

	"pault.ag/go/debian/version"
)

// What became of a package.
const (
	Installed  = "installed"
	Removed    = "removed"
	Upgraded   = "upgraded"
	Downgraded = "downgraded"
	Broken     = "broken" // half installed or half configured
)

// Change is what became of one package.
type Change struct {
	Package string `json:"package"`
	Arch    string `json:"arch"`
	Kind    string `json:"kind"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
}

// Compare says how the packages of two databases differ, sorted by name.
func Compare(before, after DB) []Change {
	var out []Change
	for k, p := range after {
		old, had := before[k]
		had = had && old.Installed()
		c := Change{Package: p.Name, Arch: p.Arch, From: old.Version, To: p.Version}
		switch {
		case !p.Installed() && !had:
			if half(p) && old.Status != p.Status {
				c.Kind = Broken
			}
		case !p.Installed() && half(p):
			c.Kind = Broken
		case !p.Installed():
			c.Kind, c.To = Removed, ""
		case !had:
			c.Kind, c.From = Installed, ""
		case old.Version != p.Version:
			c.Kind = Upgraded
			if CompareVersions(old.Version, p.Version) > 0 {
				c.Kind = Downgraded
			}
		}
		if c.Kind != "" {
			out = append(out, c)
		}
	}
	for k, p := range before {
		if _, there := after[k]; !there && p.Installed() {
			out = append(out, Change{Package: p.Name, Arch: p.Arch, Kind: Removed, From: p.Version})
		}
	}
	slices.SortFunc(out, func(a, b Change) int {
		return strings.Compare(a.Package+":"+a.Arch, b.Package+":"+b.Arch)
	})
	return out
}

func half(p Package) bool {
	return !strings.HasSuffix(p.Status, " not-installed") && !strings.HasSuffix(p.Status, " config-files") && !p.Installed()
}

// CompareVersions orders two versions as dpkg does: below 0 when a is older. One
// that is none is compared as text.
func CompareVersions(a, b string) int {
	va, errA := version.Parse(a)
	vb, errB := version.Parse(b)
	if errA != nil || errB != nil {
		return strings.Compare(a, b)
	}
	return version.Compare(va, vb)
}

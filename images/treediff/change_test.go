package treediff_test

import (
	"strings"
	"testing"

	"rubus/images/treediff"
)

func TestIsBelow(t *testing.T) {
	for _, c := range []struct {
		p, dirs string
		want    bool
	}{
		{"etc/hosts", "/etc", true},
		{"etc/hosts", "etc/", true},
		{"etc", "etc", true},
		{"etc/hosts", "/home /etc", true},
		{"etc/hosts", "/", true},
		{"etc2/hosts", "/etc", false},
		{"etc", "etc/hosts", false},
		{"etc/hosts", "", false},
		{"usr/etc/x", "etc", false},
	} {
		if got := treediff.IsBelow(c.p, strings.Fields(c.dirs)); got != c.want {
			t.Errorf("%q below %q: %v", c.p, c.dirs, got)
		}
	}
}

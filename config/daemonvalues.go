package config

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// interfaceName is what Linux takes (IFNAMSIZ is 16 with the final NUL).
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,14}$`)

// listen reads addresses and interface names.
func (r *reader) listen(n *yaml.Node) []Listen {
	var out []Listen
	for _, w := range r.words(n, "listen", "") {
		var l Listen
		if a, err := netip.ParseAddr(w.Value); err == nil {
			if !a.Is4() {
				r.addf(w, "listen: %s: Raspberry Pis boot over IPv4: want an IPv4 address or an interface", w.Value)
				continue
			}
			if a.IsUnspecified() {
				r.addf(w, "listen: %s: leave listen out to serve on all addresses", w.Value)
				continue
			}
			l.Address = a
		} else if interfaceName.MatchString(w.Value) && !looksLikeAddress(w.Value) {
			l.Interface = w.Value
		} else {
			r.addf(w, "listen: %q: want an interface such as eth0 or an address such as 192.168.1.2", w.Value)
			continue
		}
		if slices.Contains(out, l) {
			r.addf(w, "listen: %s stands twice", l)
			continue
		}
		out = append(out, l)
	}
	return out
}

// looksLikeAddress catches 192.168.1.300 and 10.0.0.1.5.
func looksLikeAddress(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return (c < '0' || c > '9') && c != '.' }) < 0
}

func (r *reader) port(n *yaml.Node, what string, p *uint16) {
	if n == nil {
		return
	}
	n, ok := r.text(n, what)
	if !ok {
		return
	}
	v, err := strconv.ParseUint(n.Value, 10, 16)
	if err != nil || v == 0 || n.ShortTag() != "!!int" {
		r.addf(n, "%s: want a port from 1 to 65535, not %q", what, n.Value)
		return
	}
	*p = uint16(v)
}

func (r *reader) flag(n *yaml.Node, what string, b *bool) {
	if n != nil {
		*b = r.boolean(n, what, *b)
	}
}

// choose reads one word of a few; def when it is none of them.
func choose[T any](r *reader, n *yaml.Node, what string, def T, words map[string]T) T {
	n, ok := r.text(n, what)
	if !ok {
		return def
	}
	v, ok := words[n.Value]
	if !ok {
		r.addf(n, "%s: unknown value %q%s", what, n.Value, DidYouMean(n.Value, slices.Sorted(maps.Keys(words))))
		return def
	}
	return v
}

func (r *reader) duration(n *yaml.Node, what string, least, def time.Duration) time.Duration {
	n, ok := r.text(n, what)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		r.addf(n, "%s: want a duration such as 5m30s, not %q", what, n.Value)
	case d < least:
		r.addf(n, "%s: want at least %v, not %v", what, least, d)
	default:
		return d
	}
	return def
}

func (r *reader) size(n *yaml.Node, what string, def int64) int64 {
	n, ok := r.text(n, what)
	if !ok {
		return def
	}
	v, err := parseSize(n.Value)
	if err != nil {
		r.addf(n, "%s: %v", what, err)
		return def
	}
	return v
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,18}(?:\.[0-9]{1,6})?) ?(B|[KMGT](?:iB)?|kB|MB|GB|TB)?$`)

// parseSize reads a number of bytes: 1GiB and 1G are 2^30, 1GB is 10^9.
func parseSize(s string) (int64, error) {
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("want a size such as 1GiB or 500MB, not %q", s)
	}
	unit := map[string]float64{
		"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
		"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40,
		"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}[m[2]]
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil || f*unit >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return int64(f * unit), nil
}

// sizeText is what parseSize reads, in the largest unit that leaves a whole number.
func sizeText(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if b := int64(1) << (40 - 10*i); n >= b && n%b == 0 {
			return strconv.FormatInt(n/b, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

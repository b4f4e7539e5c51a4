package config

import (
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Boot is the section "boot".
type Boot struct {
	// Refuse says that boot files which cannot work together are not given out;
	// otherwise they are, and it is only said.
	Refuse bool
	// FallbackAfter is how many boots in a row must fail with changed boot files
	// until the board gets those of its last good boot; 0: never.
	FallbackAfter int
	// GoodWithin is after how long a boot on trial, after a rebase, that was not reported as
	// good is told of, and stops its batch; 0: never.
	GoodWithin time.Duration
}

// Netconsole is the section "netconsole".
type Netconsole struct {
	Enabled bool
	Port    uint16
}

// boot reads the section "boot".
func (r *reader) boot(n *yaml.Node, b *Boot) {
	f := r.fields(n, "boot", []string{"check", "fallback_after", "good_within"}, nil)
	if v := f["check"]; v != nil {
		b.Refuse = choose(r, v, "boot.check", b.Refuse, map[string]bool{"refuse": true, "warn": false})
	}
	if v := f["fallback_after"]; v != nil {
		r.count(v, "boot.fallback_after", &b.FallbackAfter)
	}
	if v := f["good_within"]; v != nil {
		b.GoodWithin = r.duration(v, "boot.good_within", 0, b.GoodWithin)
	}
}

// netconsole reads the section "netconsole".
func (r *reader) netconsole(n *yaml.Node, c *Netconsole) {
	f := r.fields(n, "netconsole", []string{"enabled", "port"}, nil)
	r.flag(f["enabled"], "netconsole.enabled", &c.Enabled)
	r.port(f["port"], "netconsole.port", &c.Port)
}

// maxCount is the largest number that count takes.
const maxCount = 100

// count reads a small number.
func (r *reader) count(n *yaml.Node, what string, to *int) {
	n, ok := r.text(n, what)
	if !ok {
		return
	}
	v, err := strconv.Atoi(n.Value)
	if err != nil || v < 0 || v > maxCount || n.ShortTag() != "!!int" {
		r.addf(n, "%s: want a number from 0 to %d, not %q", what, maxCount, n.Value)
		return
	}
	*to = v
}

package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"rubus/config/device"
	"rubus/images/imageref"
)

const (
	// maxConfigLine is where the firmware stops reading a line of config.txt,
	// in characters (Raspberry Pi documentation, config.txt: 98).
	maxConfigLine = 98
	// maxCmdlineLine bounds one entry; the kernel takes 2,048 bytes in all.
	maxCmdlineLine = 512
	// maxLines bounds the entries of one list.
	maxLines = 128
)

var (
	deviceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	hexName    = regexp.MustCompile(`^([0-9A-Fa-f]{8}|[0-9A-Fa-f]{16})$`)
	groupName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	// configLine is what the firmware's parser knows: a filter, a comment,
	// include, initramfs, or key=value.
	configLine = regexp.MustCompile(`^(\[[^\]]+\]|#.*|include [^ ].*|initramfs [^ ].*|[^=\s]+=.*)$`)
)

// serial reads a serial from the text of its node: to YAML 12345678 is a
// number, 00123456 an octal one and 10000e12 a float.
func (r *reader) serial(n *yaml.Node, what string) (device.Serial, bool) {
	n, ok := r.text(n, what)
	if !ok {
		return device.Serial{}, false
	}
	s, err := device.ParseSerial(n.Value)
	if err != nil {
		r.addf(n, "%v", err)
	}
	return s, err == nil
}

func (r *reader) mac(n *yaml.Node, what string) device.MAC {
	n, ok := r.text(n, what)
	if !ok {
		return device.MAC{}
	}
	m, err := device.ParseMAC(n.Value)
	if err != nil {
		r.addf(n, "%s: %v", what, err)
	}
	return m
}

func (r *reader) address(n *yaml.Node, what string) netip.Addr {
	n, ok := r.text(n, what)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(n.Value)
	switch {
	case err != nil || !a.Is4():
		r.addf(n, "%s: address %q: want an IPv4 address such as 192.168.1.20", what, n.Value)
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		r.addf(n, "%s: address %q is no board's: it is zero, multicast or broadcast", what, n.Value)
	default:
		return a
	}
	return netip.Addr{}
}

func (r *reader) image(n *yaml.Node, what string) imageref.Ref {
	n, ok := r.word(n, what)
	if !ok {
		return imageref.Ref{}
	}
	ref, err := imageref.Parse(n.Value)
	if err != nil {
		r.addf(n, "%s: %v", what, err)
	}
	return ref
}

func (r *reader) name(n *yaml.Node, what string) string {
	n, ok := r.word(n, what)
	if !ok {
		return ""
	}
	if err := checkName(n.Value); err != nil {
		r.addf(n, "%s: %v", what, err)
		return ""
	}
	return n.Value
}

// checkName says whether a board can have this name on the command line too,
// where a serial may stand in its place.
func checkName(s string) error {
	if !deviceName.MatchString(s) {
		return fmt.Errorf("name %q: want letters, digits and . _ - between them, at most 63, as in bench-01", s)
	}
	if hexName.MatchString(s) {
		return fmt.Errorf("name %q looks like a serial: want another one", s)
	}
	return nil
}

func (r *reader) overlay(n *yaml.Node, what string) Overlay {
	n, ok := r.word(n, what)
	if !ok {
		return Persistent
	}
	switch o := Overlay(n.Value); o {
	case Persistent, Ephemeral:
		return o
	}
	r.addf(n, "%s: unknown overlay %q%s", what, n.Value, DidYouMean(n.Value, []string{string(Persistent), string(Ephemeral)}))
	return Persistent
}

// lines reads cmdline or config: text that goes into a file of the board, so
// nothing in it may start another line.
func (r *reader) lines(n *yaml.Node, what string, check func(string) error) []setting[string] {
	words := r.words(n, what, " (a comma ends an entry of a [list])")
	if len(words) > maxLines {
		r.addf(words[maxLines], "%s: more than %d lines", what, maxLines)
		words = words[:maxLines]
	}
	var out []setting[string]
	for _, w := range words {
		if err := check(w.Value); err != nil {
			r.addf(w, "%s: %v", what, err)
			continue
		}
		out = append(out, setting[string]{val: w.Value, line: w.Line})
	}
	return out
}

func checkCmdline(s string) error { return checkLine(s, maxCmdlineLine) }

func checkConfig(s string) error {
	if err := checkLine(s, maxConfigLine); err != nil {
		return err
	}
	if !configLine.MatchString(s) {
		return fmt.Errorf("%q is no line of config.txt: want key=value (a comma ends an entry of a [list]: quote it)", s)
	}
	return nil
}

func checkLine(s string, longest int) error {
	if i := strings.IndexFunc(s, isControl); i >= 0 {
		c, _ := utf8.DecodeRuneInString(s[i:])
		return fmt.Errorf("%q has the control character %U: want one line of text", s, c)
	}
	if strings.TrimSpace(s) == "" {
		return fmt.Errorf("the line is blank")
	}
	if n := utf8.RuneCountInString(s); n > longest {
		return fmt.Errorf("the line %.20q... has %d characters: at most %d are read", s, n, longest)
	}
	return nil
}

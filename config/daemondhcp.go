package config

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"rubus/config/device"
)

// TFTP is the section "tftp".
type TFTP struct {
	Port uint16
	// Prefixes are the fixed strings that boards' EEPROMs put before names
	// (TFTP_PREFIX_STR); they are taken off.
	Prefixes []string
	// MaxBlock is the largest block given, in bytes, and Rollover the number of
	// the block after number 65535: 0 or 1.
	MaxBlock, Rollover int
	// Plain are patterns of names whose requests are answered without options.
	Plain []string
	// Pi5Start says what a Pi 5 gets for start.elf and start4.elf.
	Pi5Start Pi5Start
}

// Pi5Start is what a Pi 5 gets for firmware that only older boards run.
type Pi5Start string

// What a Pi 5 gets.
const (
	// Pi5StartOwn: what the board's boot directory has.
	Pi5StartOwn Pi5Start = "own"
	// Pi5StartHide: never the file.
	Pi5StartHide Pi5Start = "hide"
	// Pi5StartAdd: a file of one byte where the directory has none.
	Pi5StartAdd Pi5Start = "add"
)

// DHCPMode says what rubus does about DHCP.
type DHCPMode string

// The modes.
const (
	// DHCPProxy answers boot requests beside the site's own DHCP server.
	DHCPProxy DHCPMode = "proxy"
	// DHCPServer gives out addresses, too, on a network that has no other server.
	DHCPServer DHCPMode = "server"
	// DHCPOff leaves all of DHCP to others.
	DHCPOff DHCPMode = "off"
)

// DHCP is the section "dhcp".
type DHCP struct {
	Mode DHCPMode
	// First and Last are the range of addresses; invalid unless Mode is server.
	First, Last netip.Addr
	// Lease is how long an address is given for. Router, DNS and Domain are told
	// to clients where they are set. Force serves beside another DHCP server.
	Lease  time.Duration
	Router netip.Addr
	DNS    []netip.Addr
	Domain string
	Force  bool
	// OUIs make a Pi of a PXE client whose option 97 says nothing.
	OUIs device.OUIs
	// ServerID, when set, is option 54 of a proxy's OFFERs. ACKOptions repeats in
	// an ACK what the OFFER said of the boot server.
	ServerID   netip.Addr
	ACKOptions bool
	// ROM, Bootcode and EEPROM say how these kinds of firmware are answered.
	ROM, Bootcode, EEPROM Manner
}

// Manner is how a kind of firmware is answered.
type Manner struct {
	// Offers are the times after a DISCOVER at which the OFFER is sent.
	Offers []time.Duration
	// Text is the entry of the boot menu, with its blanks.
	Text string
	// Delivery is auto, broadcast or unicast.
	Delivery string
	// Option66 says that option 66 names the TFTP server, too.
	Option66 bool
}

func defaultTFTP() TFTP {
	return TFTP{Port: 69, MaxBlock: 1468, Pi5Start: Pi5StartOwn}
}

func defaultDHCP() DHCP {
	const text, ms = "Raspberry Pi Boot", time.Millisecond
	return DHCP{
		Mode: DHCPProxy, Lease: 12 * time.Hour, ACKOptions: true,
		OUIs:     device.PiOUIs(),
		ROM:      Manner{[]time.Duration{0, 600 * ms, 1200 * ms}, text + "   ", "auto", true},
		Bootcode: Manner{[]time.Duration{0, time.Second}, text + "   ", "auto", true},
		EEPROM:   Manner{[]time.Duration{0}, text, "auto", true},
	}
}

func tftpKeys() []string {
	return []string{"port", "prefixes", "max_block", "rollover", "plain", "pi5_start"}
}

func dhcpKeys() []string {
	return []string{
		"mode", "range", "lease", "router", "dns", "domain", "force",
		"ouis", "server_id", "ack_options", "rom", "bootcode", "eeprom",
	}
}

func mannerKeys() []string { return []string{"offers", "text", "delivery", "option66"} }

func (r *reader) tftp(n *yaml.Node, t *TFTP) {
	f := r.fields(n, "tftp", tftpKeys(), nil)
	r.port(f["port"], "tftp.port", &t.Port)
	if v := f["prefixes"]; v != nil {
		for _, w := range r.words(v, "tftp.prefixes", "") {
			if p := w.Value; len(p) > 32 || strings.Trim(p, "/") == "" || strings.Contains(p, "..") {
				r.addf(w, "tftp.prefixes: %q: want what TFTP_PREFIX_STR says, at most 32 characters", p)
				continue
			}
			t.Prefixes = append(t.Prefixes, w.Value)
		}
	}
	if v := f["max_block"]; v != nil {
		r.between(v, "tftp.max_block", 512, 65464, &t.MaxBlock)
	}
	if v := f["rollover"]; v != nil {
		r.between(v, "tftp.rollover", 0, 1, &t.Rollover)
	}
	if v := f["plain"]; v != nil {
		for _, w := range r.words(v, "tftp.plain", "") {
			if _, err := path.Match(w.Value, ""); err != nil {
				r.addf(w, "tftp.plain: %q is no pattern of names", w.Value)
				continue
			}
			t.Plain = append(t.Plain, w.Value)
		}
	}
	if v := f["pi5_start"]; v != nil {
		t.Pi5Start = choose(r, v, "tftp.pi5_start", t.Pi5Start, map[string]Pi5Start{"own": Pi5StartOwn, "hide": Pi5StartHide, "add": Pi5StartAdd})
	}
}

// between reads a number within bounds.
func (r *reader) between(n *yaml.Node, what string, least, most int, i *int) {
	n, ok := r.text(n, what)
	if !ok {
		return
	}
	v, err := strconv.Atoi(n.Value)
	if err != nil || v < least || v > most || n.ShortTag() != "!!int" {
		r.addf(n, "%s: want a number from %d to %d, not %q", what, least, most, n.Value)
		return
	}
	*i = v
}

// maxRange is the largest number of addresses to give out.
const maxRange = 4096

func (r *reader) dhcp(n *yaml.Node, d *DHCP) {
	f := r.fields(n, "dhcp", dhcpKeys(), nil)
	if v := f["mode"]; v != nil {
		// To YAML 1.1 tools off is false; here it is the word it looks like.
		d.Mode = choose(r, v, "dhcp.mode", d.Mode, map[string]DHCPMode{"proxy": DHCPProxy, "server": DHCPServer, "off": DHCPOff})
	}
	if v := f["range"]; v != nil {
		r.addressRange(v, d)
	} else if d.Mode == DHCPServer {
		r.linef(n.Line, "dhcp: mode server gives out addresses: which? Write a range, such as 192.168.77.100-192.168.77.199")
	}
	if v := f["lease"]; v != nil {
		d.Lease = r.duration(v, "dhcp.lease", 2*time.Minute, d.Lease)
	}
	if v := f["router"]; v != nil {
		d.Router = r.address(v, "dhcp.router")
	}
	if v := f["dns"]; v != nil {
		for _, w := range r.words(v, "dhcp.dns", "") {
			if a := r.address(w, "dhcp.dns"); a.IsValid() {
				d.DNS = append(d.DNS, a)
			}
		}
		if len(d.DNS) > 8 {
			r.addf(v, "dhcp.dns: %d name servers, at most 8", len(d.DNS))
		}
	}
	if v := f["domain"]; v != nil {
		if w, ok := r.word(v, "dhcp.domain"); ok {
			if d.Domain = w.Value; len(d.Domain) > 253 || strings.ContainsFunc(d.Domain, func(c rune) bool { return c <= ' ' || c > '~' }) {
				r.addf(w, "dhcp.domain: %q is no domain", w.Value)
			}
		}
	}
	r.flag(f["force"], "dhcp.force", &d.Force)
	if v := f["ouis"]; v != nil {
		d.OUIs = r.ouis(v)
	}
	if v := f["server_id"]; v != nil {
		d.ServerID = r.address(v, "dhcp.server_id")
	}
	r.flag(f["ack_options"], "dhcp.ack_options", &d.ACKOptions)
	for key, m := range map[string]*Manner{"rom": &d.ROM, "bootcode": &d.Bootcode, "eeprom": &d.EEPROM} {
		if v := f[key]; v != nil {
			r.manner(v, "dhcp."+key, m)
		}
	}
}

// addressRange reads FIRST-LAST.
func (r *reader) addressRange(n *yaml.Node, d *DHCP) {
	w, ok := r.word(n, "dhcp.range")
	if !ok {
		return
	}
	a, b, _ := strings.Cut(w.Value, "-")
	first, err1 := netip.ParseAddr(strings.TrimSpace(a))
	last, err2 := netip.ParseAddr(strings.TrimSpace(b))
	switch {
	case err1 != nil || err2 != nil || !first.Is4() || !last.Is4():
		r.addf(w, "dhcp.range: %q: want two IPv4 addresses, such as 192.168.77.100-192.168.77.199", w.Value)
	case last.Less(first):
		r.addf(w, "dhcp.range: %s comes after %s", first, last)
	case span(first, last) > maxRange:
		r.addf(w, "dhcp.range: %d addresses, at most %d", span(first, last), maxRange)
	default:
		d.First, d.Last = first, last
	}
}

func span(first, last netip.Addr) int64 {
	n := func(a netip.Addr) int64 {
		b := a.As4()
		return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
	}
	return n(last) - n(first) + 1
}

func (r *reader) ouis(n *yaml.Node) device.OUIs {
	out := device.OUIs{}
	for _, w := range r.words(n, "dhcp.ouis", "") {
		m, ok := parseOUI(w.Value)
		if !ok {
			r.addf(w, "dhcp.ouis: %q: want three hex pairs such as b8:27:eb", w.Value)
			continue
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

func parseOUI(s string) (o device.OUI, ok bool) {
	const hex = "0123456789abcdef"
	s = strings.ToLower(s)
	if len(s) != 8 || s[2] != s[5] || s[2] != ':' && s[2] != '-' {
		return o, false
	}
	for i := range o {
		hi, lo := strings.IndexByte(hex, s[3*i]), strings.IndexByte(hex, s[3*i+1])
		if hi < 0 || lo < 0 {
			return o, false
		}
		o[i] = byte(hi<<4 | lo)
	}
	return o, true
}

// maxOffers and maxOffer bound how often, and how late, an OFFER is sent: a Pi 3
// asks again after five seconds.
const (
	maxOffers = 8
	maxOffer  = 5 * time.Second
)

func (r *reader) manner(n *yaml.Node, what string, m *Manner) {
	f := r.fields(n, what, mannerKeys(), nil)
	if v := f["offers"]; v != nil {
		m.Offers = nil
		for _, w := range r.words(v, what+".offers", "") {
			d := r.duration(w, what+".offers", 0, 0)
			if d > maxOffer {
				r.addf(w, "%s.offers: want at most %v, not %v: firmware has asked again by then", what, maxOffer, d)
			}
			m.Offers = append(m.Offers, d)
		}
		if len(m.Offers) == 0 || len(m.Offers) > maxOffers {
			r.addf(v, "%s.offers: want 1 to %d times after the request, such as [0s, 600ms]", what, maxOffers)
		}
	}
	if v := f["text"]; v != nil {
		if w, ok := r.word(v, what+".text"); ok {
			if m.Text = w.Value; len(m.Text) > 200 {
				r.addf(w, "%s.text: %d bytes, at most 200", what, len(m.Text))
			}
		}
	}
	if v := f["delivery"]; v != nil {
		m.Delivery = choose(r, v, what+".delivery", m.Delivery, map[string]string{"auto": "auto", "broadcast": "broadcast", "unicast": "unicast"})
	}
	r.flag(f["option66"], what+".option66", &m.Option66)
}

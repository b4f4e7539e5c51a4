package config

import (
	"maps"
	"slices"
	"strings"

	"rubus/config/device"
	"rubus/images/imageref"
)

type imageRef = imageref.Ref

// resolve makes devices of entries: groups and defaults applied, and nothing
// said twice. It adds to r.problems what is wrong between the entries.
func (r *reader) resolve(f *deviceFile, s *Snapshot) {
	s.bySerial = make(map[device.Serial]*Device, len(f.entries))
	s.byMAC = map[device.MAC]*Device{}
	first := &claims{r: r, seen: map[string]map[string]*entry{}}
	for _, e := range f.entries {
		d := r.device(f, e)
		if !first.claim(e, "serial", d.Serial.String()) {
			continue
		}
		if first.claim(e, "name", strings.ToLower(d.Name)) {
			first.claim(e, "hostname", strings.ToLower(d.Hostname))
		}
		first.claim(e, "machine_id", d.MachineID)
		for _, key := range d.HostKeys {
			first.claim(e, "ssh_host_keys", key)
		}
		first.claim(e, "mac", d.MAC.String())
		if d.Address.IsValid() {
			first.claim(e, "address", d.Address.String())
		}
		s.bySerial[d.Serial] = d
		s.devices = append(s.devices, d)
	}
	r.romMACs(f, s)
	slices.SortFunc(s.devices, func(a, b *Device) int { return a.Serial.Compare(b.Serial) })
	s.unknown = Unknown{Policy: f.unknown}
	if f.unknown == UnknownBoot {
		e := &entry{line: f.boot.line, options: options{origin: "unknown", image: f.boot}}
		s.unknown.Device = r.device(f, e)
	}
}

// claims notes who was first to have a serial, name, MAC, address or host key.
type claims struct {
	r    *reader
	seen map[string]map[string]*entry
}

// lineOf is where a device's own key stands, or what its value was made of.
func (e *entry) lineOf(key string) int {
	line := e.lines[key]
	switch {
	case key == "hostname" && line == 0:
		return e.lines["name"]
	case key == "ssh_host_keys":
		return e.hostKeys.line
	}
	return line
}

// claim says whether e is the first with this value; if not, that is a problem.
func (c *claims) claim(e *entry, key, value string) bool {
	if value == "" {
		return true
	}
	if c.seen[key] == nil {
		c.seen[key] = map[string]*entry{}
	}
	if other := c.seen[key][value]; other != nil {
		c.r.linef(e.lineOf(key), "device %s: %s %s is that of device %s too (line %d)",
			e.Serial, key, value, other.Serial, other.lineOf(key))
		return false
	}
	c.seen[key][value] = e
	return true
}

// romMACs finds out whom a MAC means. A device is known by its mac or, without
// one, by the MAC that a Pi up to the 3 derives from its serial.
func (r *reader) romMACs(f *deviceFile, s *Snapshot) {
	owner := map[device.MAC]*entry{}
	for _, named := range []bool{true, false} {
		for _, e := range f.entries {
			mac := e.MAC
			if mac.IsZero() {
				mac = e.Serial.PiMAC()
			}
			d := s.bySerial[e.Serial]
			if named == e.MAC.IsZero() || d == nil {
				continue
			}
			other := owner[mac]
			switch {
			case other == nil:
				owner[mac], s.byMAC[mac] = e, d
			case named || other.Serial == e.Serial:
				// Said as a duplicate before.
			default:
				r.linef(e.line, "device %s: a Pi 3 with this serial has the MAC %s, and so has device %s (line %d): write a \"mac\" at both",
					e.Serial, mac, other.Serial, other.line)
			}
		}
	}
}

// device applies groups and defaults to one entry.
func (r *reader) device(f *deviceFile, e *entry) *Device {
	d := e.Device
	d.sources = map[string][]Source{}
	for key, line := range e.lines {
		switch key {
		case "serial", "name", "mac", "address", "hostname", "machine_id":
			d.sources[key] = []Source{r.source("device", line)}
		}
	}
	// Nearest first: the device, its groups in their order, the defaults.
	chain := []*options{&e.options}
	for _, g := range e.groups {
		o := f.groups[g.val]
		if o == nil {
			r.linef(g.line, "device %s: unknown group %q%s", e.Serial, g.val, DidYouMean(g.val, slices.Sorted(maps.Keys(f.groups))))
			continue
		}
		d.Groups = append(d.Groups, g.val)
		d.sources["group"] = append(d.sources["group"], r.source("device", g.line))
		chain = append(chain, o)
	}
	chain = append(chain, &f.defaults)

	d.Image = pick(r, &d, "image", chain, imageRef{}, func(o *options) setting[imageRef] { return o.image })
	d.Overlay = pick(r, &d, "overlay", chain, Persistent, func(o *options) setting[Overlay] { return o.overlay })
	d.Enabled = pick(r, &d, "enabled", chain, true, func(o *options) setting[bool] { return o.enabled })
	d.Sync = pick(r, &d, "sync", chain, r.sync, func(o *options) setting[bool] { return o.sync })
	if !r.sync && len(d.sources["sync"]) == 0 {
		d.sources["sync"] = []Source{{Origin: "nfs.sync of rubus.yaml"}}
	}
	d.Quota = pick(r, &d, "quota", chain, Quota{}, func(o *options) setting[Quota] { return o.quota })
	if len(d.sources["image"]) == 0 {
		r.linef(e.line, "device %s has no image: write one here, in a group of it, or in the defaults", e.Serial)
	}
	// Lines add up, the nearest last: in config.txt and on the kernel's command
	// line the last one counts.
	order := slices.Concat([]*options{&f.defaults}, chain[1:len(chain)-1], chain[:1])
	for _, o := range order {
		for _, l := range o.cmdline {
			d.Cmdline = append(d.Cmdline, l.val)
			d.sources["cmdline"] = append(d.sources["cmdline"], r.source(o.origin, l.line))
		}
		for _, l := range o.config {
			d.Config = append(d.Config, l.val)
			d.sources["config"] = append(d.sources["config"], r.source(o.origin, l.line))
		}
	}
	r.resolveIdentity(f, &d, chain, order)
	return &d
}

func (r *reader) source(origin string, line int) Source {
	return Source{Origin: origin, File: r.file, Line: line}
}

// pick is the first setting of a key along the chain, or def.
func pick[T comparable](r *reader, d *Device, key string, chain []*options, def T, get func(*options) setting[T]) T {
	for _, o := range chain {
		if s := get(o); s.set {
			d.sources[key] = []Source{r.source(o.origin, s.line)}
			return s.val
		}
	}
	var zero T
	if def != zero {
		d.sources[key] = []Source{builtIn()}
	}
	return def
}

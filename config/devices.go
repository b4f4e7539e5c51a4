package config

import (
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"
)

// formatVersion is the version of devices.yaml that this program reads.
const formatVersion = "1"

// setting is a value that stands in a file, or not.
type setting[T any] struct {
	val  T
	set  bool
	line int
}

// options is what a device, a group and the defaults may all say.
type options struct {
	// origin is what Source.Origin says of the values.
	origin  string
	image   setting[imageRef]
	overlay setting[Overlay]
	enabled setting[bool]
	sync    setting[bool]
	quota   setting[Quota]
	cmdline []setting[string]
	config  []setting[string]
	identityOptions
}

// entry is a device as it stands in the file.
type entry struct {
	options
	Device
	line   int
	lines  map[string]int // where the device's own keys stand
	groups []setting[string]
}

// deviceFile is devices.yaml as it stands, each value valid for itself.
type deviceFile struct {
	defaults options
	groups   map[string]*options
	entries  []*entry
	unknown  Policy
	// boot is the image of {boot: IMAGE}.
	boot setting[imageRef]
	// badTemplates are those that were told of.
	badTemplates map[string]bool
}

// Keys of devices.yaml.
func topKeys() []string { return []string{"version", "unknown", "defaults", "groups", "devices"} }

func optionKeys() []string {
	return append([]string{"image", "overlay", "enabled", "sync", "quota", "cmdline", "config"}, identityKeys()...)
}

// DeviceKeys are the keys of a device in devices.yaml, in the order in which they are written.
func DeviceKeys() []string {
	return append([]string{"serial", "name", "group", "mac", "address", "hostname", "machine_id"}, optionKeys()...)
}

// deviceFile reads the whole file.
func (r *reader) deviceFile(data []byte) *deviceFile {
	f := &deviceFile{groups: map[string]*options{}, unknown: UnknownList}
	f.defaults.origin = "defaults"
	root := r.document(data)
	if root == nil {
		return f
	}
	top := r.fields(root, "the file", topKeys(), map[string]string{
		"listen": "in rubus.yaml", "nfs": "in rubus.yaml", "tftp": "in rubus.yaml", "dhcp": "in rubus.yaml", "state": "in rubus.yaml",
		"image": "at a device, a group or the defaults", "overlay": "at a device, a group or the defaults",
		"serial": "at a device: begin a list of devices with \"devices:\"",
	})
	if n := top["version"]; n != nil {
		if v, ok := r.text(n, "version"); ok && v.Value != formatVersion {
			r.addf(v, "version %q of this file is unknown: this rubus reads version %s", v.Value, formatVersion)
		}
	}
	if n := top["unknown"]; n != nil {
		r.unknown(n, f)
	}
	if n := top["defaults"]; n != nil {
		r.options(r.shared(n, "defaults"), "defaults", &f.defaults)
	}
	if n := top["groups"]; n != nil {
		r.groups(n, f)
	}
	if n := top["devices"]; n != nil {
		r.entries(n, f)
	}
	return f
}

// unknown reads ignore, list or {boot: IMAGE}.
func (r *reader) unknown(n *yaml.Node, f *deviceFile) {
	t := r.deref(n)
	if t == nil {
		return
	}
	if t.Kind == yaml.MappingNode {
		m := r.fields(t, "unknown", []string{"boot"}, nil)
		if img := m["boot"]; img != nil {
			f.unknown, f.boot = UnknownBoot, setting[imageRef]{r.image(img, "unknown"), true, img.Line}
		} else if len(t.Content) == 0 {
			r.addf(t, "unknown: want ignore, list or {boot: IMAGE}")
		}
		return
	}
	w, ok := r.word(t, "unknown")
	if !ok {
		return
	}
	switch p := Policy(w.Value); p {
	case UnknownIgnore, UnknownList:
		f.unknown = p
	case UnknownBoot:
		r.addf(w, "unknown: boot what? Write {boot: IMAGE}")
	default:
		r.addf(w, "unknown: want ignore, list or {boot: IMAGE}, not %q", w.Value)
	}
}

// shared reads the keys of a group or of the defaults.
func (r *reader) shared(n *yaml.Node, what string) map[string]*yaml.Node {
	return r.fields(n, what, optionKeys(), map[string]string{
		"serial": "at a device", "name": "at a device", "mac": "at a device", "address": "at a device", "group": "at a device",
		"hostname": "at a device", "machine_id": "at a device",
	})
}

// options reads the keys that may stand at several places into o.
func (r *reader) options(m map[string]*yaml.Node, what string, o *options) {
	if n := m["image"]; n != nil {
		o.image = setting[imageRef]{r.image(n, what+": image"), true, n.Line}
	}
	if n := m["overlay"]; n != nil {
		o.overlay = setting[Overlay]{r.overlay(n, what+": overlay"), true, n.Line}
	}
	if n := m["enabled"]; n != nil {
		o.enabled = setting[bool]{r.boolean(n, what+": enabled", true), true, n.Line}
	}
	if n := m["sync"]; n != nil {
		o.sync = setting[bool]{r.boolean(n, what+": sync", true), true, n.Line}
	}
	if n := m["quota"]; n != nil {
		o.quota = setting[Quota]{r.quota(n, what+": quota"), true, n.Line}
	}
	if n := m["cmdline"]; n != nil {
		o.cmdline = r.lines(n, what+": cmdline", checkCmdline)
	}
	if n := m["config"]; n != nil {
		o.config = r.lines(n, what+": config", checkConfig)
	}
	r.identity(m, what, o)
}

func (r *reader) groups(n *yaml.Node, f *deviceFile) {
	for _, p := range r.pairs(n, "groups") {
		what := fmt.Sprintf("group %q", p.key)
		if !groupName.MatchString(p.key) {
			r.addf(p.at, "%s: a name has letters, digits and . _ - after the first, at most 63", what)
		}
		o := &options{origin: "group " + p.key}
		f.groups[p.key] = o
		r.options(r.shared(p.node, what), what, o)
	}
}

func (r *reader) entries(n *yaml.Node, f *deviceFile) {
	t := r.deref(n)
	if t == nil || isNull(t) {
		return
	}
	if t.Kind != yaml.SequenceNode {
		r.addf(t, "devices: want a list (- serial: ...), not %s", kindName(t))
		return
	}
	for _, item := range t.Content {
		line := item.Line
		if t := r.deref(item); t == nil {
			return
		} else if t.Kind != yaml.MappingNode {
			r.addf(t, "devices: want a device (serial: ...), not %s", kindName(t))
			continue
		}
		if e := r.entry(item, line); e != nil {
			f.entries = append(f.entries, e)
		}
	}
}

// entry reads one device; nil when it has no serial to know it by.
func (r *reader) entry(n *yaml.Node, line int) *entry {
	e := &entry{line: line, lines: map[string]int{}}
	e.origin = "device"
	// The serial stands in every message about the device, so it comes first.
	what := "device"
	for _, p := range quietly(r, n) {
		if t := p.node; p.key == "serial" && t.Kind == yaml.ScalarNode && t.Value != "" && len(t.Value) <= 16 {
			what = "device " + t.Value
			break
		}
	}
	m := r.fields(n, what, DeviceKeys(), map[string]string{
		"groups": "at the top of the file; a device has \"group\"", "unknown": "at the top of the file",
	})
	for key, n := range m {
		e.lines[key] = n.Line
	}
	ok := false
	if n := m["serial"]; n != nil {
		e.Serial, ok = r.serial(n, "serial")
	} else {
		r.linef(line, "a device without a serial: want serial: and 8 or 16 hex digits, as in /proc/cpuinfo")
	}
	if n := m["name"]; n != nil {
		e.Name = r.name(n, what)
	}
	if n := m["mac"]; n != nil {
		e.MAC = r.mac(n, what)
	}
	if n := m["address"]; n != nil {
		e.Address = r.address(n, what)
	}
	if n := m["hostname"]; n != nil {
		e.Hostname = r.hostname(n, what+": hostname")
	}
	if n := m["machine_id"]; n != nil {
		e.MachineID = r.machineID(n, what+": machine_id")
	}
	if n := m["group"]; n != nil {
		r.membership(n, what, e)
	}
	r.options(m, what, &e.options)
	if !ok {
		return nil
	}
	return e
}

// quietly reads a mapping without a word about what is wrong with it.
func quietly(r *reader, n *yaml.Node) []pair {
	q := &reader{file: r.file, nodes: r.nodes, limit: r.limit}
	return q.pairs(n, "")
}

func (r *reader) membership(n *yaml.Node, what string, e *entry) {
	for _, w := range r.words(n, what+": group", "") {
		if slices.ContainsFunc(e.groups, func(s setting[string]) bool { return s.val == w.Value }) {
			r.addf(w, "%s: group %q stands twice", what, w.Value)
			continue
		}
		e.groups = append(e.groups, setting[string]{w.Value, true, w.Line})
	}
}

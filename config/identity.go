package config

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"rubus/config/boardtext"
)

// Identity is what makes a board that one board, as far as devices.yaml says it.
type Identity struct {
	// Hostname is that of the device, or else made of its name; "": it has neither.
	Hostname string
	// MachineID has 32 hex digits in lower case; "": the board gets one.
	MachineID string
	// HostKeys are files of the server with private keys, NoHostKeys leaves host keys to
	// the board. Neither: it gets some.
	HostKeys   []string
	NoHostKeys bool
	// AuthorizedKeys are, by user, what may log in as that user.
	AuthorizedKeys map[string][]AuthorizedKey
	// Files are other files, sorted by path, each once.
	Files []BoardFile
	// Vars are for templates.
	Vars map[string]string
}

// AuthorizedKey is a line of authorized_keys, or a file of the server with such lines.
type AuthorizedKey struct{ Line, File string }

// BoardFile is a file that a board is given: one of Content, Template and From says
// what is in it.
type BoardFile struct {
	Path              string
	Content, Template string
	// From is a file of the server; Secret says that it is one.
	From   string
	Secret bool
	Mode   fs.FileMode
	// Owner is "user", "user:group", or numbers; "" is root.
	Owner string
}

// identityOptions is what a device, a group and the defaults may all say of an identity.
type identityOptions struct {
	hostKeys setting[hostKeys]
	keys     []userKey
	files    []setting[BoardFile]
	vars     []variable
}

type hostKeys struct {
	none  bool
	files []string
}

type userKey struct {
	user string
	setting[AuthorizedKey]
}

type variable struct {
	name string
	setting[string]
}

const (
	maxHostname = 64
	// maxContent bounds a text that stands in devices.yaml, in bytes.
	maxContent = 64 << 10
)

var (
	hostLabel   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	machineID   = regexp.MustCompile(`^[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}$`)
	userName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)
	ownerForm   = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,9})(:([A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,9}))?$`)
	varName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
	modeForm    = regexp.MustCompile(`^0?[0-7]{3}$`)
	volatileDir = regexp.MustCompile(`^/(dev|proc|run|sys|tmp)(/|$)`)
)

func identityKeys() []string { return []string{"ssh_host_keys", "authorized_keys", "files", "vars"} }

func fileKeys() []string {
	return []string{"path", "content", "template", "from", "secret", "mode", "owner"}
}

// resolveIdentity applies groups and defaults: order has the nearest last.
func (r *reader) resolveIdentity(f *deviceFile, d *Device, chain, order []*options) {
	if d.Hostname == "" && d.Name != "" {
		d.Hostname = hostnameOf(d.Name)
		d.sources["hostname"] = []Source{{Origin: "its name"}}
	}
	for _, o := range chain {
		if o.hostKeys.set {
			d.HostKeys, d.NoHostKeys = o.hostKeys.val.files, o.hostKeys.val.none
			d.sources["ssh_host_keys"] = []Source{r.source(o.origin, o.hostKeys.line)}
			break
		}
	}
	keys := map[string][]Source{} // by user, one for each key
	vars, files := map[string]Source{}, map[string]Source{}
	for _, o := range order {
		for _, k := range o.keys {
			if d.AuthorizedKeys == nil {
				d.AuthorizedKeys = map[string][]AuthorizedKey{}
			}
			if !slices.Contains(d.AuthorizedKeys[k.user], k.val) {
				d.AuthorizedKeys[k.user] = append(d.AuthorizedKeys[k.user], k.val)
				keys[k.user] = append(keys[k.user], r.source(o.origin, k.line))
			}
		}
		for _, v := range o.vars {
			if d.Vars == nil {
				d.Vars = map[string]string{}
			}
			d.Vars[v.name], vars[v.name] = v.val, r.source(o.origin, v.line)
		}
		for _, s := range o.files {
			d.Files = slices.DeleteFunc(d.Files, func(x BoardFile) bool { return x.Path == s.val.Path })
			d.Files = append(d.Files, s.val)
			files[s.val.Path] = r.source(o.origin, s.line)
		}
	}
	slices.SortFunc(d.Files, func(a, b BoardFile) int { return strings.Compare(a.Path, b.Path) })
	for _, user := range slices.Sorted(maps.Keys(keys)) {
		d.sources["authorized_keys"] = append(d.sources["authorized_keys"], keys[user]...)
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		d.sources["vars"] = append(d.sources["vars"], vars[name])
	}
	for _, b := range d.Files {
		d.sources["files"] = append(d.sources["files"], files[b.Path])
		r.tryTemplate(f, d, b, files[b.Path].Line)
	}
}

// tryTemplate fills a template in as this device's would be: what it names must be
// there. A template of many devices is told of once.
func (r *reader) tryTemplate(f *deviceFile, d *Device, b BoardFile, line int) {
	t, err := boardtext.Parse(b.Template)
	if err == nil {
		_, err = t.Render(d.facts())
	}
	if err == nil {
		return
	}
	at := fmt.Sprint(line, err)
	if f.badTemplates == nil {
		f.badTemplates = map[string]bool{}
	}
	if !f.badTemplates[at] {
		f.badTemplates[at] = true
		r.linef(line, "files: %s: %v (for device %s)", b.Path, err, d.Label())
	}
}

// facts are those of a device, with something in the place of what only a boot tells.
func (d *Device) facts() boardtext.Facts {
	f := d.Facts()
	f.MAC, f.Address, f.Image = "02:00:00:00:00:01", "192.0.2.1", d.Image.String()
	return f
}

// Facts are what templates may name of a device; what only a boot tells is not there.
func (d *Device) Facts() boardtext.Facts {
	f := boardtext.Facts{Serial: d.Serial.String(), Name: d.Label(), Hostname: d.Hostname, Groups: d.Groups, Vars: d.Vars}
	if len(d.Groups) > 0 {
		f.Group = d.Groups[0]
	}
	return f
}

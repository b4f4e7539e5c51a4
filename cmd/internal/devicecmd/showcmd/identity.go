package showcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/crypto/ssh"

	"rubus/boot"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/devicecmd/keycmd"
	"rubus/config"
	"rubus/config/device"
)

// fileInfo is a file of devices.yaml as --json prints it, without what is in it.
type fileInfo struct {
	Path   string `json:"path"`
	From   string `json:"from,omitempty"`
	Secret bool   `json:"secret,omitempty"`
	Mode   string `json:"mode"`
	Owner  string `json:"owner,omitempty"`
}

// addIdentity adds what a device says of its board's identity.
func (i *deviceInfo) addIdentity(d *config.Device) {
	i.Hostname, i.MachineID, i.HostKeys, i.Vars = d.Hostname, d.MachineID, d.HostKeys, d.Vars
	if d.NoHostKeys {
		i.HostKeys = []string{"off"}
	}
	for user, keys := range d.AuthorizedKeys {
		if i.AuthorizedKeys == nil {
			i.AuthorizedKeys = map[string][]string{}
		}
		for _, k := range keys {
			i.AuthorizedKeys[user] = append(i.AuthorizedKeys[user], k.Line+k.File)
		}
	}
	for _, f := range d.Files {
		i.Files = append(i.Files, fileInfo{f.Path, f.From, f.Secret, fmt.Sprintf("%04o", f.Mode), f.Owner})
	}
}

// identityValues are the keys of an identity with their values as text.
func (i *deviceInfo) identityValues() []value {
	out := []value{{"hostname", nil}, {"machine_id", nil}, {"ssh_host_keys", i.HostKeys}, {"authorized_keys", nil}, {"files", nil}, {"vars", nil}}
	if i.Hostname != "" {
		out[0].values = []string{i.Hostname}
	}
	if i.MachineID != "" {
		out[1].values = []string{i.MachineID}
	}
	for _, user := range slices.Sorted(maps.Keys(i.AuthorizedKeys)) {
		for _, k := range i.AuthorizedKeys[user] {
			out[3].values = append(out[3].values, user+": "+keyText(k))
		}
	}
	for _, f := range i.Files {
		text := f.Path
		if f.Secret {
			text += " (secret)"
		}
		out[4].values = append(out[4].values, text)
	}
	for _, name := range slices.Sorted(maps.Keys(i.Vars)) {
		out[5].values = append(out[5].values, name+"="+i.Vars[name])
	}
	return out
}

// keyText is a line of authorized_keys short: whose key it is, or else its fingerprint.
func keyText(line string) string {
	key, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return line // the name of a file
	case comment != "":
		return comment
	}
	return ssh.FingerprintSHA256(key)
}

// identityInfo is what a board was given last, as --json prints it.
type identityInfo struct {
	Hostname  string           `json:"hostname"`
	MachineID string           `json:"machine_id"`
	HostKeys  []keycmd.HostKey `json:"host_keys"`
	// Files are the paths of what it was given.
	Files []string `json:"files"`
}

// identityInfoOf reads what a board was given last; nil: it was given nothing, or only
// root may know.
func identityInfoOf(g *cli.Globals, serial device.Serial) (*identityInfo, error) {
	state, err := g.StateDir()
	if err != nil {
		return nil, err
	}
	given, err := boot.IdentityStore(state, serial).Given()
	if errors.Is(err, fs.ErrPermission) || err == nil && given.Hostname == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	out := &identityInfo{Hostname: given.Hostname, MachineID: given.MachineID, Files: []string{}}
	if out.HostKeys, err = keycmd.HostKeys(serial, given.HostKeys); err != nil {
		return nil, err
	}
	for _, f := range given.Files {
		if f.Now {
			out.Files = append(out.Files, f.Path)
		}
	}
	return out, nil
}

func (i *identityInfo) print(g *cli.Globals) {
	fmt.Fprintf(g.Stdout, "\n%-8s %s\n%-8s %s\n", "hostname", i.Hostname, "machine", i.MachineID)
	for _, k := range i.HostKeys {
		fmt.Fprintf(g.Stdout, "%-8s %s\n", "host key", k)
	}
}

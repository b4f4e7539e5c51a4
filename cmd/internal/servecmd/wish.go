package servecmd

import (
	"rubus/boot/identity"
	"rubus/config"
	"rubus/config/boardtext"
)

// WishOf is what a device of the configuration wants of its board's identity.
func WishOf(d *config.Device) *identity.Wish {
	w := &identity.Wish{
		Hostname: d.Hostname, MachineID: d.MachineID, NoHostKeys: d.NoHostKeys, HostKeys: d.HostKeys, Facts: d.Facts(),
	}
	if d.Serial.IsZero() { // of boards that no entry names
		w.Facts.Name = ""
	}
	if len(d.AuthorizedKeys) > 0 {
		w.Keys = map[string][]identity.Key{}
	}
	for user, keys := range d.AuthorizedKeys {
		for _, k := range keys {
			w.Keys[user] = append(w.Keys[user], identity.Key(k))
		}
	}
	for _, f := range d.Files {
		file := identity.File{Path: f.Path, Content: f.Content, From: f.From, Secret: f.Secret, Mode: f.Mode, Owner: f.Owner}
		if f.Template != "" {
			// It was parsed when the configuration was read.
			file.Template, _ = boardtext.Parse(f.Template)
		}
		w.Files = append(w.Files, file)
	}
	return w
}

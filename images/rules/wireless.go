package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// secretFile is a file with a password of a wireless network, or a key of a VPN.
type secretFile struct {
	path string
	// without is what remains when the networks with passwords are taken out; nil: nothing. mode is
	// for it.
	without []byte
	mode    uint32
	// stays says that the file is about other things, too, and no rule can part them.
	stays bool
	// names are files that it names. They are looked at, too, whether it has a secret itself or not.
	names []namedFile
}

// namedFile is a file at a path, which may be relative to who names it.
type namedFile struct {
	path string
	look func([]byte) (found bool, f secretFile)
}

// secretPlace is where systems keep such passwords: files of a directory, and, where it is deep,
// of those in it.
type secretPlace struct {
	dir, pattern string
	deep         bool
	look         func([]byte) (found bool, f secretFile)
}

func secretPlaces() []secretPlace {
	places := []secretPlace{
		{"/etc/wpa_supplicant", "*.conf", true, supplicant},
		{"/etc", "wpa_supplicant*.conf", false, supplicant},
		{"/etc/NetworkManager/system-connections", "*", false, whole(isKeyfile)},
		{"/etc/netplan", "*.yaml", false, netplan},
		{"/etc/network", "interfaces", false, interfaces},
		{"/etc/network/interfaces.d", "*", true, interfaces},
		{"/var/lib/iwd", "*", false, whole(isIWD)},
	}
	for _, boot := range []string{"/boot", "/boot/firmware"} {
		places = append(
			places,
			// Raspberry Pi OS up to bullseye moves it to /etc when it boots.
			secretPlace{boot, "wpa_supplicant.conf", false, whole(func(b []byte) bool { found, _ := supplicant(b); return found })},
			// For the first boot from a card, which no board has: nobody reads them.
			secretPlace{boot, "network-config", false, whole(func(b []byte) bool { found, _ := netplan(b); return found })},
			secretPlace{boot, "custom.toml", false, whole(isPreset)},
			secretPlace{boot, "rpi-preseed.toml", false, whole(isPreset)},
			secretPlace{boot, "firstrun.sh", false, whole(isFirstRun)},
		)
	}
	return places
}

// whole is for a file that is about nothing else.
func whole(is func([]byte) bool) func([]byte) (bool, secretFile) {
	return func(b []byte) (bool, secretFile) { return is(b), secretFile{} }
}

// WirelessPasswords lists the files of a tree, where systems look for them, that hold passwords of
// wireless networks.
func WirelessPasswords(t *Tree) ([]string, error) {
	files, err := t.secrets(secretPlaces())
	return paths(files), err
}

func paths(files []secretFile) (out []string) {
	for _, f := range files {
		out = append(out, f.path)
	}
	return out
}

// maxDeep is how deep a secretPlace is looked into, maxNames how many of the files are that one
// file names.
const (
	maxDeep  = 8
	maxNames = 16
)

// secrets finds the files with secrets in places. One beyond 1 MiB is none.
func (t *Tree) secrets(places []secretPlace) (out []secretFile, err error) {
	for _, p := range places {
		if out, err = t.secretsIn(out, p.dir, p, maxDeep); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// secretsIn adds to out those of one directory.
func (t *Tree) secretsIn(out []secretFile, dir string, p secretPlace, deep int) ([]secretFile, error) {
	list, err := t.names(dir)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if p.deep && n.IsDir() && deep > 0 {
			out, err = t.secretsIn(out, "/"+n.Path, p, deep-1)
		} else if ok, _ := path.Match(p.pattern, path.Base(n.Path)); ok {
			out, err = t.secretAt(out, "/"+n.Path, p.look)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// secretAt adds to out a file that has a secret, and those that it names.
func (t *Tree) secretAt(out []secretFile, name string, look func([]byte) (bool, secretFile)) ([]secretFile, error) {
	at, n, err := t.find(name, true)
	if isOdd(err) || err == nil && (n == nil || !n.IsRegular() || n.Stat.Size > maxFile) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := t.v.ReadFile(n.Path, maxFile)
	if err != nil {
		return nil, err
	}
	found, f := look(b)
	if f.path = at; found && !slices.ContainsFunc(out, func(o secretFile) bool { return o.path == at }) {
		out = append(out, f)
	}
	for _, o := range f.names[:min(len(f.names), maxNames)] { // which name no others
		if !path.IsAbs(o.path) {
			o.path = path.Join(path.Dir(at), o.path)
		}
		if out, err = t.secretAt(out, o.path, o.look); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// wireless takes passwords of wireless networks out of what boards see.
func (m *planner) wireless() error {
	files, err := m.t.secrets(secretPlaces())
	if err != nil {
		return err
	}
	var gone []string
	for _, f := range files {
		m.plan.Wireless = append(m.plan.Wireless, f.path)
		switch {
		case f.stays:
			m.plan.Notes = append(m.plan.Notes, fmt.Sprintf("%s holds a Wi-Fi password and other settings, and each board has it: \"rubus image edit\" can take it out", f.path))
			continue
		case f.without != nil:
			err = m.write(f.path, f.without, f.mode)
		default:
			err = m.change(Change{Path: f.path, Kind: Hide})
		}
		if err != nil {
			return err
		}
		gone = append(gone, f.path)
	}
	if len(gone) > 0 {
		m.plan.Notes = append(m.plan.Notes, fmt.Sprintf("boards do not see the Wi-Fi passwords in %s; the layer below has them, and so has who gets the image: \"files\" in devices.yaml gives boards one", someOf(gone)))
	}
	return m.vpn()
}

// someOf lists a few of many.
func someOf(list []string) string {
	const most = 4
	if more := len(list) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), more)
	}
	return strings.Join(list, ", ")
}

// settings reads KEY=VALUE in sections, as keyfiles, iwd's files and simple TOML have them.
func settings(b []byte, is func(section, key, value string) bool) bool {
	section := ""
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") && strings.HasSuffix(l, "]") {
			section = strings.TrimSpace(l[1 : len(l)-1])
			continue
		}
		key, value, ok := strings.Cut(l, "=")
		if key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"'`); !ok || value == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if is(section, key, value) {
			return true
		}
	}
	return false
}

// isKeyfile knows a profile of NetworkManager (nm-settings-keyfile(5)) for a wireless network
// with a password of any kind. Sections may have their older names.
func isKeyfile(b []byte) bool {
	wifi := settings(b, func(section, key, value string) bool {
		return section == "connection" && key == "type" && (value == "wifi" || value == "802-11-wireless")
	})
	return wifi && settings(b, func(section, key, _ string) bool {
		switch section {
		case "wifi-security", "802-11-wireless-security":
			return key == "psk" || key == "leap-password" || isWEPKey(key)
		case "802-1x":
			return key == "pin" || !strings.HasSuffix(key, "-flags") && strings.Contains(key, "password")
		}
		return false
	})
}

func isWEPKey(key string) bool { ok, _ := path.Match("wep?key[0-3]", key); return ok }

// isIWD knows a network of iwd (iwd.network(5)).
func isIWD(b []byte) bool {
	return settings(b, func(_, key, _ string) bool {
		return key == "Passphrase" || key == "PreSharedKey" || strings.HasPrefix(key, "EAP-") && strings.Contains(key, "Passw")
	})
}

// isPreset knows the settings that Raspberry Pi Imager wrote for bookworm.
func isPreset(b []byte) bool {
	return settings(b, func(section, key, _ string) bool { return section == "wlan" && key == "password" })
}

// isFirstRun knows the script that Raspberry Pi Imager wrote before that.
func isFirstRun(b []byte) bool {
	return strings.Contains(string(b), "set_wlan") || settings(b, func(_, key, _ string) bool { return key == "psk" })
}

// supplicant takes the networks with passwords out of a wpa_supplicant.conf(5): a service that wants
// the file starts as before, and a country stays set.
func supplicant(b []byte) (bool, secretFile) {
	var rest, block strings.Builder
	inside, secret, found := false, false, false
	for l := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSpace(l), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !inside {
			if inside = ok && (key == "network" || key == "cred") && strings.HasPrefix(value, "{"); !inside {
				rest.WriteString(l)
				continue
			}
			block.Reset()
			secret = false
		}
		block.WriteString(l)
		if ok && value != "" && isSupplicantSecret(key) {
			secret = true
		}
		if key == "}" && !ok {
			inside = false
			if found = found || secret; !secret {
				rest.WriteString(block.String())
			}
		}
	}
	if inside { // it does not end: nobody reads it
		if found = found || secret; !secret {
			rest.WriteString(block.String())
		}
	}
	return found, secretFile{without: []byte(rest.String()), mode: 0o600}
}

func isSupplicantSecret(key string) bool {
	return slices.Contains([]string{"psk", "sae_password", "password", "password2", "private_key_passwd", "private_key2_passwd", "pin"}, key) || isWEPKey(key)
}

// netplan looks into netplan's YAML, which cloud-init's network-config is, too, with its "network:"
// or without.
func netplan(b []byte) (bool, secretFile) {
	var all map[string]any
	if err := yaml.Unmarshal(b, &all); err != nil {
		// netplan reads no more of it; whose eyes do find it.
		text := string(b)
		return strings.Contains(text, "wifis:") && strings.Contains(text, "password:"), secretFile{stays: true}
	}
	network, ok := all["network"].(map[string]any)
	if !ok {
		network = all
	}
	stays := ok && len(all) > 1
	for key := range network {
		stays = stays || !slices.Contains([]string{"version", "renderer", "wifis"}, key)
	}
	return hasPassword(network["wifis"]), secretFile{stays: stays}
}

// hasPassword says whether a tree of YAML, which has no cycles, has a password with a value.
func hasPassword(v any) bool {
	is := func(key, value any) bool {
		name, _ := key.(string)
		text, isText := value.(string)
		_, isNumber := value.(int)
		return strings.Contains(name, "password") && (text != "" && isText || isNumber) || hasPassword(value)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if is(key, value) {
				return true
			}
		}
	case map[any]any: // a network's name may be a number
		for key, value := range v {
			if is(key, value) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasPassword)
	}
	return false
}

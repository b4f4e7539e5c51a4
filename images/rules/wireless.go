package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// wirelessFile is a file with a password of a wireless network.
type wirelessFile struct {
	path string
	// without is what remains when the networks with passwords are taken out; nil: nothing.
	without []byte
	// stays says that the file is about other things, too, and no rule can part them.
	stays bool
}

// wirelessPlace is where systems keep such passwords.
type wirelessPlace struct {
	dir, pattern string
	look         func([]byte) (found bool, f wirelessFile)
}

func wirelessPlaces() []wirelessPlace {
	places := []wirelessPlace{
		{"/etc/wpa_supplicant", "*.conf", supplicant},
		{"/etc/NetworkManager/system-connections", "*", whole(isKeyfile)},
		{"/etc/netplan", "*.yaml", netplan},
		{"/var/lib/iwd", "*", whole(isIWD)},
	}
	for _, boot := range []string{"/boot", "/boot/firmware"} {
		places = append(
			places,
			// Raspberry Pi OS up to bullseye moves it to /etc when it boots.
			wirelessPlace{boot, "wpa_supplicant.conf", whole(func(b []byte) bool { found, _ := supplicant(b); return found })},
			// For the first boot from a card, which no board has: nobody reads them.
			wirelessPlace{boot, "network-config", whole(func(b []byte) bool { found, _ := netplan(b); return found })},
			wirelessPlace{boot, "custom.toml", whole(isPreset)},
			wirelessPlace{boot, "rpi-preseed.toml", whole(isPreset)},
			wirelessPlace{boot, "firstrun.sh", whole(isFirstRun)},
		)
	}
	return places
}

// whole is for a file that is about nothing else.
func whole(is func([]byte) bool) func([]byte) (bool, wirelessFile) {
	return func(b []byte) (bool, wirelessFile) { return is(b), wirelessFile{} }
}

// WirelessPasswords lists the files of a tree, where systems look for them, that hold passwords of
// wireless networks.
func WirelessPasswords(t *Tree) ([]string, error) {
	files, err := t.wireless()
	var out []string
	for _, f := range files {
		out = append(out, f.path)
	}
	return out, err
}

// wireless finds the files with passwords of wireless networks. One beyond 1 MiB is none.
func (t *Tree) wireless() (out []wirelessFile, err error) {
	for _, p := range wirelessPlaces() {
		list, err := t.names(p.dir)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			if ok, _ := path.Match(p.pattern, path.Base(n.Path)); !ok {
				continue
			}
			at, n, err := t.find("/"+n.Path, true)
			if isOdd(err) || err == nil && (n == nil || !n.IsRegular() || n.Stat.Size > maxFile) {
				continue
			}
			if err != nil {
				return nil, err
			}
			b, err := t.v.ReadFile(n.Path, maxFile)
			if err != nil {
				return nil, err
			}
			found, f := p.look(b)
			if f.path = at; found && !slices.ContainsFunc(out, func(o wirelessFile) bool { return o.path == at }) {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// wireless takes passwords of wireless networks out of what boards see.
func (m *planner) wireless() error {
	files, err := m.t.wireless()
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
			err = m.write(f.path, f.without, 0o600)
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
	return nil
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
func supplicant(b []byte) (bool, wirelessFile) {
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
	return found, wirelessFile{without: []byte(rest.String())}
}

func isSupplicantSecret(key string) bool {
	return slices.Contains([]string{"psk", "sae_password", "password", "password2", "private_key_passwd", "private_key2_passwd", "pin"}, key) || isWEPKey(key)
}

// netplan looks into netplan's YAML, which cloud-init's network-config is, too, with its "network:"
// or without.
func netplan(b []byte) (bool, wirelessFile) {
	var all map[string]any
	if err := yaml.Unmarshal(b, &all); err != nil {
		// netplan reads no more of it; whose eyes do find it.
		text := string(b)
		return strings.Contains(text, "wifis:") && strings.Contains(text, "password:"), wirelessFile{stays: true}
	}
	network, ok := all["network"].(map[string]any)
	if !ok {
		network = all
	}
	stays := ok && len(all) > 1
	for key := range network {
		stays = stays || !slices.Contains([]string{"version", "renderer", "wifis"}, key)
	}
	return hasPassword(network["wifis"]), wirelessFile{stays: stays}
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

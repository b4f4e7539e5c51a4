package rules_test

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rubus/images/rules"
)

// nmcli makes a profile as NetworkManager itself writes it.
func nmcli(t *testing.T, args ...string) string {
	t.Helper()
	scripts := cmp.Or(os.Getenv("RUBUS_SCRIPTS"), "../../scripts")
	out, err := exec.Command(filepath.Join(scripts, "peer-tools"), "systems").Output()
	must(t, err)
	tools := strings.TrimSpace(string(out))
	libs, err := filepath.Glob(filepath.Join(tools, "usr/lib/*-linux-gnu"))
	must(t, err)
	cmd := exec.Command(filepath.Join(tools, "usr/bin/nmcli"), append([]string{"--offline", "connection", "add", "con-name", "home"}, args...)...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libs, ":"))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if out, err = cmd.Output(); err != nil {
		t.Fatalf("nmcli %q: %v\n%s", args, err, errs.String())
	}
	return string(out)
}

const (
	// bullseye is what Raspberry Pi OS has, and what wpa_passphrase adds to it.
	supplicantHead = "ctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev\nupdate_config=1\ncountry=NL\n"
	supplicantHome = "\nnetwork={\n\tssid=\"Home\"\n\t#psk=\"correct horse\"\n\tpsk=6ba1d0ef2d4f5a21f4bcb8f1ce2b77c6d6f2a2fa8f1d4dd2f1bb9d1ff0e0d0f1\n}\n"
	supplicantOpen = "network={\n\tssid=\"Cafe\"\n\tkey_mgmt=NONE\n}\n"
	// netplanHome is how NetworkManager keeps a profile where netplan keeps them.
	netplanHome = "network:\n  version: 2\n  wifis:\n    NM-6cf32279:\n      renderer: NetworkManager\n      match: {}\n      dhcp4: true\n      access-points:\n        \"Home\":\n          auth:\n            key-management: \"psk\"\n            password: \"correct horse\"\n          networkmanager:\n            uuid: \"6cf32279\"\n            name: \"home\"\n"
)

// Passwords of wireless networks are found where each system keeps them, and boards do not see
// them; what has none, and what such a file holds beside them, stays.
func TestWireless(t *testing.T) {
	psk := nmcli(t, "type", "wifi", "ssid", "Home", "wifi-sec.key-mgmt", "wpa-psk", "wifi-sec.psk", "correct horse")
	sae := nmcli(t, "type", "wifi", "ssid", "Home", "wifi-sec.key-mgmt", "sae", "wifi-sec.psk", "correct horse")
	eap := nmcli(t, "type", "wifi", "ssid", "Uni", "wifi-sec.key-mgmt", "wpa-eap", "802-1x.eap", "peap", "802-1x.identity", "me", "802-1x.phase2-auth", "mschapv2", "802-1x.password", "correct horse")
	asked := nmcli(t, "type", "wifi", "ssid", "Home", "wifi-sec.key-mgmt", "wpa-psk", "wifi-sec.psk-flags", "2")
	wired := nmcli(t, "type", "ethernet", "802-1x.eap", "peap", "802-1x.identity", "me", "802-1x.phase2-auth", "mschapv2", "802-1x.password", "correct horse")
	cafe := nmcli(t, "type", "wifi", "ssid", "Cafe")
	const (
		nm   = "etc/NetworkManager/system-connections/"
		wpa  = "etc/wpa_supplicant/wpa_supplicant.conf"
		ifs  = "etc/network/interfaces"
		hide = "hide"
	)
	for name, c := range map[string]struct {
		path, text string
		want       string // hide, "to " and what it becomes, or "" when it stays as it is
		note       string
	}{
		"NetworkManager":                  {nm + "home.nmconnection", psk, hide, "boards do not see the Wi-Fi passwords in /" + nm + "home.nmconnection;"},
		"NetworkManager, WPA3":            {nm + "home.nmconnection", sae, hide, ""},
		"NetworkManager, of a company":    {nm + "work.nmconnection", eap, hide, ""},
		"NetworkManager, older":           {nm + "home", "[connection]\nid=home\ntype=802-11-wireless\n\n[802-11-wireless-security]\nwep-key0=12345\n", hide, ""},
		"NetworkManager asks":             {nm + "home.nmconnection", asked, "", ""},
		"NetworkManager, open":            {nm + "cafe.nmconnection", cafe, "", ""},
		"NetworkManager, by wire":         {nm + "wired.nmconnection", wired, "", ""},
		"wpa_supplicant":                  {wpa, supplicantHead + supplicantHome, "to " + supplicantHead + "\n", "boards do not see the Wi-Fi passwords in /" + wpa + ";"},
		"wpa_supplicant, an open network": {wpa, supplicantHead + supplicantOpen + supplicantHome, "to " + supplicantHead + supplicantOpen + "\n", ""},
		"wpa_supplicant, of one card":     {"etc/wpa_supplicant/wpa_supplicant-wlan0.conf", supplicantHead + supplicantHome, "to " + supplicantHead + "\n", ""},
		"wpa_supplicant, of a company":    {wpa, "network={\n  ssid=\"Uni\"\n  key_mgmt=WPA-EAP\n  identity=\"me\"\n  password=\"correct horse\"\n}", "to ", ""},
		"wpa_supplicant, cut off":         {wpa, supplicantHead + "network={\n\tpsk=\"correct horse\"\n", "to " + supplicantHead, ""},
		"wpa_supplicant without":          {wpa, supplicantHead + supplicantOpen, "", ""},
		"for the first boot":              {"boot/firmware/wpa_supplicant.conf", supplicantHead + supplicantHome, hide, ""},
		"netplan":                         {"etc/netplan/90-NM-6cf32279.yaml", netplanHome, hide, ""},
		"netplan, the short form":         {"etc/netplan/50-wifi.yaml", "network:\n  wifis:\n    wlan0:\n      access-points: {Home: {password: correct horse}}\n", hide, ""},
		"netplan, numbers":                {"etc/netplan/50-wifi.yaml", "network:\n  wifis:\n    wlan0:\n      access-points: {12345: {password: 12345678}}\n", hide, ""},
		"netplan, open":                   {"etc/netplan/50-wifi.yaml", "network:\n  wifis:\n    wlan0:\n      access-points: {Cafe: {}}\n", "", ""},
		"netplan, wires, too":             {"etc/netplan/50-cloud-init.yaml", netplanHome + "  ethernets:\n    eth0: {dhcp4: true}\n", "", "/etc/netplan/50-cloud-init.yaml holds a Wi-Fi password and other settings"},
		"netplan that is damaged":         {"etc/netplan/50-wifi.yaml", netplanHome + "\t- :\n", "", "holds a Wi-Fi password and other settings"},
		"cloud-init":                      {"boot/firmware/network-config", "version: 2\nethernets: {eth0: {dhcp4: true}}\nwifis:\n  wlan0:\n    access-points:\n      Home: {password: 'correct horse'}\n", hide, ""},
		"wpa_supplicant, elsewhere":       {"etc/wpa_supplicant.conf", supplicantHead + supplicantHome, "to " + supplicantHead + "\n", ""},
		"wpa_supplicant, further down":    {"etc/wpa_supplicant/sites/home.conf", supplicantHead + supplicantHome, "to " + supplicantHead + "\n", ""},
		"ifupdown":                        {ifs, "auto lo wlan0\niface lo inet loopback\n\n# the card's\nallow-hotplug wlan0\niface wlan0 inet dhcp\n\twpa-ssid Home\n\twpa-psk  correct horse\niface wlan0 inet6 auto\nsource interfaces.d/*\n", "to auto lo\niface lo inet loopback\n\n# the card's\nsource interfaces.d/*\n", "boards do not see the Wi-Fi passwords in /" + ifs + ";"},
		"ifupdown, one interface":         {"etc/network/interfaces.d/wlan0", "iface wlan0 inet dhcp\n  wireless-essid Home\n  wireless-key s:horse\n", "to ", ""},
		"ifupdown, further down":          {"etc/network/interfaces.d/site/wlan0", "iface wlan0 inet dhcp\n  wireless-key1 0123456789\n", "to ", ""},
		"ifupdown, of a company":          {ifs, "iface wlan0 inet dhcp\n  wpa-key-mgmt WPA-EAP\n  wpa-identity me\n  wpa-password correct horse\n", "to ", ""},
		"ifupdown, a long line":           {ifs, "iface wlan0 \\\n  inet dhcp\n  wpa-psk \\\n  horse\n\nauto eth0\n", "to auto eth0\n", ""},
		"ifupdown, cut off":               {ifs, "iface wlan0 inet dhcp\n  wpa-psk horse\\", "to ", ""},
		"ifupdown, open":                  {ifs, "iface wlan0 inet dhcp\n  wireless-essid Cafe\n  wireless-key off\n#  wpa-psk horse\n", "", ""},
		"ifupdown, by wire":               {ifs, "auto eth0\niface eth0 inet dhcp\n  up echo wpa-psk horse\n", "", ""},
		"iwd":                             {"var/lib/iwd/Home.psk", "[Security]\nPreSharedKey=6ba1d0ef\nPassphrase=correct horse\n", hide, ""},
		"Imager":                          {"boot/firmware/custom.toml", "config_version = 1\n[wlan]\nssid = \"Home\"\npassword = \"correct horse\"\npassword_encrypted = false\n", hide, ""},
		"Imager, no Wi-Fi":                {"boot/firmware/custom.toml", "config_version = 1\n[user]\npassword = \"$5$x\"\n[wlan]\ncountry = \"NL\"\n", "", ""},
		"Imager, older":                   {"boot/firmware/firstrun.sh", "#!/bin/bash\n/usr/lib/raspberrypi-sys-mods/imager_custom set_wlan 'Home' 'correct horse' 'NL'\n", hide, ""},
		"much too large":                  {nm + "home.nmconnection", psk + strings.Repeat("#", 1<<20), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := with(systemd(), tree{"etc/os-release": debian12, "boot/firmware/kernel8.img": "", c.path: c.text}).write(t)
			p := plan(t, root)
			at := "/" + c.path
			stays := c.want == "" && c.note != ""
			if found := slices.Equal(p.Wireless, []string{at}); found != (c.want != "" || stays) {
				t.Errorf("found: %q", p.Wireless)
			}
			if c.note != "" && !strings.Contains(lines(p), c.note) {
				t.Errorf("no note %q in\n%s", c.note, lines(p))
			}
			got := ""
			for _, e := range p.Effects {
				for _, change := range e.Changes {
					switch {
					case e.Rule != "wireless":
					case change.Path != at:
						t.Errorf("it changes %s", change.Path)
					case change.Kind == rules.Write && (change.Mode == 0o600 || strings.HasPrefix(c.path, "etc/network/") && change.Mode == 0o644):
						got = "to " + string(change.Data)
					default:
						got = string(change.Kind)
					}
				}
			}
			if got != c.want {
				t.Errorf("boards see it changed by %q, want %q", got, c.want)
			}
		})
	}
}

// An imported card has the passwords in its layer, boards do not see them, and what they see has
// no more of them.
func TestWirelessImported(t *testing.T) {
	const (
		nm  = "etc/NetworkManager/system-connections/home.nmconnection"
		wpa = "etc/wpa_supplicant/wpa_supplicant.conf"
		np  = "etc/netplan/90-NM-6cf32279.yaml"
	)
	files := tree{nm: nmcli(t, "type", "wifi", "ssid", "Home", "wifi-sec.key-mgmt", "wpa-psk", "wifi-sec.psk", "correct horse"), wpa: supplicantHead + supplicantHome, np: netplanHome}
	root := with(systemd(), tree{"etc/os-release": debian12, "boot/firmware/kernel8.img": ""}, files).write(t)
	must(t, os.Chmod(filepath.Join(root, wpa), 0o600))
	dirs := imported(t, root)
	after := look(t, dirs...)
	for _, p := range []string{nm, np} {
		if b, err := after.ReadFile(p, 1<<20); err == nil {
			t.Errorf("boards see /%s: %q", p, b)
		}
	}
	st, err := os.Stat(filepath.Join(dirs[0], wpa))
	must(t, err)
	if b, err := after.ReadFile(wpa, 1<<20); err != nil || string(b) != supplicantHead+"\n" || st.Mode().Perm() != 0o600 {
		t.Errorf("boards see /%s: %q, %s, %v", wpa, b, st.Mode(), err)
	}
	if again := plan(t, dirs...); again.Changes() != 0 || len(again.Wireless) > 0 {
		t.Errorf("once more:\n%s", lines(again))
	}
	below, err := rules.WirelessPasswords(rules.NewTree(look(t, dirs[1])))
	if must(t, err); len(below) != len(files) {
		t.Errorf("below: %q", below)
	}
}

// FuzzWireless: whatever is in such a file, it is found or not, and when it has been dealt with
// nothing is left to find.
func FuzzWireless(f *testing.F) {
	for _, s := range []string{supplicantHead + supplicantHome + supplicantOpen, netplanHome, "[connection]\ntype=wifi\n[wifi-security]\npsk=x\n", "network:\n  wifis: [&a {password: x}, *a]\n", "network={\nnetwork={\npsk=1\n}\n}\n", "auto lo wlan0\niface wlan0 inet dhcp\n\twpa-psk \\\nx\niface wlan0 inet6 auto\niface lo inet loopback\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, again := range rules.WirelessTwice(b) {
			if again {
				t.Errorf("found again in %q", b)
			}
		}
	})
}

package rules

import (
	"bytes"
	"fmt"
	"strings"
)

// vpnPlaces are where systems keep the keys of VPNs.
func vpnPlaces() []secretPlace {
	return []secretPlace{
		{"/etc/wireguard", "*.conf", false, whole(isWireGuard)},
		{"/etc/openvpn", "*", true, openVPN},
		{"/etc/NetworkManager/system-connections", "*", false, whole(isVPNKeyfile)},
		{"/etc/systemd/network", "*.netdev", false, whole(isWireGuard)},
	}
}

// VPNKeys lists the files of a tree, where systems look for them, that hold keys or passwords of
// VPNs.
func VPNKeys(t *Tree) ([]string, error) {
	files, err := t.secrets(vpnPlaces())
	return paths(files), err
}

// vpn names the keys of VPNs, and leaves them: an image may be meant to have them.
func (m *planner) vpn() error {
	found, err := VPNKeys(m.t)
	if err != nil || len(found) == 0 {
		return err
	}
	m.plan.VPN = found
	m.plan.Notes = append(m.plan.Notes, fmt.Sprintf("each board has the VPN keys in %s, and so has who gets the image: \"files\" in devices.yaml gives each board its own", someOf(found)))
	return nil
}

// isWireGuard knows a wg-quick(8), and a systemd.netdev(5), that has keys.
func isWireGuard(b []byte) bool {
	return settings(b, func(_, key, _ string) bool {
		return strings.EqualFold(key, "PrivateKey") || strings.EqualFold(key, "PresharedKey")
	})
}

// openVPN knows a private key, as a file or within a configuration, a static one (openvpn(8),
// --secret), and a password that is written down in a configuration or in a file that it names.
func openVPN(b []byte) (found bool, f secretFile) {
	for _, begin := range []string{"PRIVATE KEY-----", "-----BEGIN OpenVPN Static key V1-----", "-----BEGIN OpenVPN tls-crypt-v2 client key-----", "<auth-user-pass>"} {
		found = found || bytes.Contains(b, []byte(begin))
	}
	for l := range strings.Lines(string(b)) {
		if w := strings.Fields(l); len(w) > 1 && w[0] == "auth-user-pass" && !strings.HasPrefix(w[1], "#") {
			f.names = append(f.names, namedFile{strings.Trim(w[1], `"'`), whole(func(b []byte) bool { return len(bytes.TrimSpace(b)) > 0 })})
		}
	}
	return found, f
}

// isVPNKeyfile knows a profile of NetworkManager for a VPN with a secret.
func isVPNKeyfile(b []byte) bool {
	return settings(b, func(section, key, _ string) bool {
		switch {
		case section == "vpn-secrets":
			return true
		case section == "wireguard":
			return key == "private-key"
		}
		return strings.HasPrefix(section, "wireguard-peer.") && key == "preshared-key"
	})
}

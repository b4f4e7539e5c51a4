package rules_test

import (
	"slices"
	"strings"
	"testing"
)

// Keys of VPNs are named, wherever they are, and stay: an image may be meant to have them.
func TestVPN(t *testing.T) {
	const (
		pem    = "-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----\n"
		static = "#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n00\n-----END OpenVPN Static key V1-----\n"
		client = "client\nremote vpn.example.com 1194\nca ca.crt\n"
		wg     = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = 10.0.0.2/24\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n"
		nm     = "etc/NetworkManager/system-connections/vpn.nmconnection"
	)
	for name, c := range map[string]struct {
		files tree
		want  []string
	}{
		"WireGuard":                   {tree{"etc/wireguard/wg0.conf": wg}, []string{"/etc/wireguard/wg0.conf"}},
		"WireGuard, a shared key":     {tree{"etc/wireguard/wg0.conf": "[Peer]\npresharedkey=x\n"}, []string{"/etc/wireguard/wg0.conf"}},
		"WireGuard, the key is asked": {tree{"etc/wireguard/wg0.conf": "[Interface]\n#PrivateKey = x\nPostUp = wg set %i private-key /run/key\n"}, nil},
		"networkd":                    {tree{"etc/systemd/network/wg0.netdev": "[NetDev]\nKind=wireguard\n[WireGuard]\nPrivateKey=x\n"}, []string{"/etc/systemd/network/wg0.netdev"}},
		"OpenVPN, a key":              {tree{"etc/openvpn/client/pi.key": pem, "etc/openvpn/client/pi.conf": client}, []string{"/etc/openvpn/client/pi.key"}},
		"OpenVPN, in one file":        {tree{"etc/openvpn/pi.ovpn": client + "<key>\n" + pem + "</key>\n"}, []string{"/etc/openvpn/pi.ovpn"}},
		"OpenVPN, a static key":       {tree{"etc/openvpn/server/keys/old/ta.key": static}, []string{"/etc/openvpn/server/keys/old/ta.key"}},
		"OpenVPN, a password":         {tree{"etc/openvpn/pi.conf": client + "<auth-user-pass>\nme\nhorse\n</auth-user-pass>\n"}, []string{"/etc/openvpn/pi.conf"}},
		"OpenVPN, a file of one": {
			tree{"etc/openvpn/client/pi.conf": client + "auth-user-pass \"login\"\n", "etc/openvpn/client/login": "me\nhorse\n"},
			[]string{"/etc/openvpn/client/login"},
		},
		"OpenVPN, elsewhere":      {tree{"etc/openvpn/pi.conf": client + "auth-user-pass /root/login\n", "root/login": "me\nhorse\n"}, []string{"/root/login"}},
		"OpenVPN, many are named": {tree{"etc/openvpn/pi.conf": strings.Repeat("auth-user-pass none\n", 16) + "auth-user-pass /root/login\n", "root/login": "me\n"}, nil},
		"OpenVPN, it asks":        {tree{"etc/openvpn/pi.conf": client + "auth-user-pass\nauth-user-pass none\n", "etc/openvpn/ca.crt": "-----BEGIN CERTIFICATE-----\n"}, nil},
		"NetworkManager":          {tree{nm: "[connection]\ntype=wireguard\n[wireguard]\nprivate-key=x\n"}, []string{"/" + nm}},
		"NetworkManager, a peer's": {
			tree{nm: "[connection]\ntype=wireguard\n[wireguard]\nprivate-key-flags=1\n[wireguard-peer.x=]\npreshared-key=x\n"}, []string{"/" + nm},
		},
		"NetworkManager, OpenVPN": {tree{nm: "[connection]\ntype=vpn\n[vpn]\npassword-flags=0\n[vpn-secrets]\npassword=horse\n"}, []string{"/" + nm}},
		"NetworkManager asks":     {tree{nm: "[connection]\ntype=vpn\n[vpn]\npassword-flags=2\n"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := plan(t, with(systemd(), tree{"etc/os-release": debian12, "boot/firmware/kernel8.img": ""}, c.files).write(t))
			if !slices.Equal(p.VPN, append([]string{}, c.want...)) || len(p.Wireless) > 0 {
				t.Errorf("found: %q, and of Wi-Fi %q", p.VPN, p.Wireless)
			}
			if told := strings.Contains(lines(p), "each board has the VPN keys in "); told != (c.want != nil) {
				t.Errorf("told %v:\n%s", told, lines(p))
			}
			for _, e := range p.Effects {
				if e.Rule == "wireless" {
					t.Errorf("it changes %v", e.Changes)
				}
			}
		})
	}
}

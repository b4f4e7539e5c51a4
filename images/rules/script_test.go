package rules_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootInterface: the service's script finds the interface and the name servers
// that the boot left behind.
func TestRootInterface(t *testing.T) {
	const (
		head  = "Iface\tDestination\tGateway\n"
		eth0  = "eth0\t00000000\t0A4D00FE\n"
		klibc = "DEVICE='eth0'\nIPV4DNS0='10.77.0.254'\nIPV4DNS1='0.0.0.0'\nHOSTNAME=''\nDNSDOMAIN='lab.example'\n"
	)
	for name, c := range map[string]struct {
		tree   tree
		resolv string // "-": nothing is written
	}{
		"initramfs":       {tree{"proc/net/route": head + eth0, "run/net-eth0.conf": klibc}, "nameserver 10.77.0.254\nsearch lab.example\n"},
		"kernel":          {tree{"proc/net/route": head + eth0, "proc/net/pnp": "#PROTO: DHCP\ndomain lab.example\nnameserver 10.77.0.254\nnameserver 0.0.0.0\nbootserver 10.77.0.1\n"}, "domain lab.example\nnameserver 10.77.0.254\n"},
		"no name servers": {tree{"proc/net/route": head + eth0, "run/net-eth0.conf": "IPV4DNS0=''\n"}, ""},
		"after lo":        {tree{"proc/net/route": head + "lo\t0000007F\t0\n" + eth0}, ""},
		"no routes":       {tree{"proc/net/route": head}, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			root := with(tree{"sys/class/net/eth0/address": "b8:27:eb:00:00:01\n", "run/": ""}, c.tree).write(t)
			if out, err := exec.Command("sh", "files/root-interface", root).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			b, err := os.ReadFile(filepath.Join(root, "run/rubus/resolv.conf"))
			if c.resolv == "-" {
				if !os.IsNotExist(err) {
					t.Errorf("resolv.conf: %q, %v", b, err)
				}
				return
			}
			must(t, err)
			if string(b) != c.resolv {
				t.Errorf("resolv.conf is %q, want %q", b, c.resolv)
			}
			for _, f := range []string{"systemd/network/05-rubus.network", "NetworkManager/conf.d/95-rubus.conf"} {
				b, err := os.ReadFile(filepath.Join(root, "run", f))
				if err != nil || !strings.Contains(string(b), "b8:27:eb:00:00:01\n") {
					t.Errorf("%s: %q, %v", f, b, err)
				}
			}
		})
	}
}

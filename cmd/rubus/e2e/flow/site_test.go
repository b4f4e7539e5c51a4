package flow

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"

	"golang.org/x/sys/unix"
)

// The site's network.
const (
	bridge     = "br0"
	hostAddr   = "10.77.0.1"
	routerAddr = "10.77.0.2"
)

// What the DHCP server has: addresses for two minutes.
var (
	onePool = []string{"--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,120"}
	// twoPools give firmware (of a Pi 3: a Pi 4's REQUEST has no vendor class)
	// and system addresses of their own.
	twoPools = []string{
		"--dhcp-vendorclass=set:firmware,PXEClient",
		"--dhcp-range=tag:firmware,10.77.0.50,10.77.0.99,255.255.255.0,120",
		"--dhcp-range=tag:!firmware,10.77.0.100,10.77.0.149,255.255.255.0,120",
	}
)

// site is a host on a bridge, with boards and a DHCP server beside it.
type site struct {
	t     *testing.T
	dir   string
	host  *netns
	state string
}

// newSite makes a site without a DHCP server, images or boards.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, host: newNetns(t), dir: filepath.Join(shared.Dir, strings.ReplaceAll(t.Name(), "/", "-"))}
	s.state = filepath.Join(s.dir, "state")
	must(t, os.MkdirAll(s.state, 0o755))
	t.Cleanup(func() {
		if err := harness.UnmountBelow(s.dir); err != nil {
			t.Error(err)
		}
	})
	s.host.run(t, "ip", "link", "add", bridge, "type", "bridge")
	s.host.run(t, "ip", "addr", "add", hostAddr+"/24", "dev", bridge)
	s.host.run(t, "ip", "link", "set", bridge, "up")
	return s
}

// plug makes a card in another namespace that is plugged into the bridge.
func (s *site) plug(n *netns, port, mac, addr string) {
	s.t.Helper()
	s.host.run(s.t, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", n.path())
	s.host.run(s.t, "ip", "link", "set", port, "master", bridge, "up")
	n.run(s.t, "ip", "addr", "add", addr+"/24", "dev", "eth0")
	n.run(s.t, "ip", "link", "set", "eth0", "up")
}

// router starts the site's DHCP server on a machine of its own.
func (s *site) router(pools []string) {
	s.t.Helper()
	n := newNetns(s.t)
	s.plug(n, "rt0", "02:00:00:00:00:02", routerAddr)
	s.dnsmasq(n, "eth0", pools)
}

// dnsmasq starts a DHCP server in a namespace.
func (s *site) dnsmasq(n *netns, iface string, pools []string) {
	s.t.Helper()
	args := append([]string{
		"--no-daemon", "--conf-file=/dev/null", "--port=0", "--bind-interfaces", "--interface=" + iface, "--except-interface=lo",
		"--no-ping", "--log-dhcp", "--dhcp-leasefile=" + s.leases(),
	}, pools...)
	log := harness.Log(filepath.Join(s.dir, "dnsmasq.log"))
	from := log.End()
	p := harness.Start(s.t, n.command(context.Background(), "dnsmasq", args...), log)
	s.t.Cleanup(func() { p.Stop(5 * time.Second) })
	harness.Until(s.t, 10*time.Second, "the site's DHCP server", func() error { return log.Said(from, "DHCP, IP range") })
}

func (s *site) leases() string { return filepath.Join(s.dir, "leases") }

// useGolden gives the site the golden image "lab", without a copy.
func (s *site) useGolden() {
	s.t.Helper()
	golden, err := goldenState()
	must(s.t, err)
	images := filepath.Join(s.state, "images")
	must(s.t, os.MkdirAll(images, 0o700))
	must(s.t, unix.Mount(filepath.Join(golden, "images"), images, "", unix.MS_BIND, ""))
}

// useTiny gives the site an image "lab" that firmware finds complete.
func (s *site) useTiny() {
	s.t.Helper()
	s.must("image", "import", "lab", tinyRoot(s.t, s.dir, "1"))
}

// tinyRoot makes a root of a few files; its /etc/version says which.
func tinyRoot(t *testing.T, dir, version string) string {
	t.Helper()
	root := filepath.Join(dir, "root-"+version)
	files := map[string]string{
		"boot/firmware/config.txt":            "arm_64bit=1\nkernel=vmlinuz\ninitramfs initrd.img\n",
		"boot/firmware/cmdline.txt":           "console=ttyS1,115200 root=/dev/mmcblk0p2 quiet\n",
		"boot/firmware/vmlinuz":               strings.Repeat("kernel ", 1000) + version,
		"boot/firmware/initrd.img":            strings.Repeat("initrd ", 1000) + version,
		"boot/firmware/bcm2710-rpi-3-b.dtb":   "device tree of a 3B",
		"boot/firmware/bcm2711-rpi-4-b.dtb":   "device tree of a 4B",
		"etc/version":                         version + "\n",
		"sbin/init":                           "#!/bin/sh\n",
		"boot/firmware/overlays/README":       "none\n",
		"boot/firmware/bcm2710-rpi-3-b-p.dtb": "device tree of a 3B+",
	}
	for _, f := range []string{"bootcode.bin", "start.elf", "start4.elf", "fixup.dat", "fixup4.dat"} {
		files["boot/firmware/"+f] = strings.Repeat(f, 500)
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o755))
	}
	return root
}

// devices writes devices.yaml, as an editor does: by rename.
func (s *site) devices(text string) {
	s.t.Helper()
	s.write("devices.yaml", text)
}

func (s *site) write(name, text string) {
	s.t.Helper()
	tmp := filepath.Join(s.dir, "."+name+".swp")
	must(s.t, os.WriteFile(tmp, []byte(text), 0o644))
	must(s.t, os.Rename(tmp, filepath.Join(s.dir, name)))
}

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/cmd/rubus/e2e/harness"
	"rubus/images"
	"rubus/images/importer"
)

// labs counts the labs: each has a bridge and a network of its own.
var labs atomic.Int32

// lab is a site: a bridge with this host on it, the site's DHCP server, an
// image store, and rubus.
type lab struct {
	t      *testing.T
	dir    string
	bridge string
	net    string // "10.77.3."
	host   netip.Addr
	store  *images.Store
	daemon *daemon
	taps   int
}

// newLab makes a site without boards. It has the image "lab".
func newLab(t *testing.T) *lab {
	t.Helper()
	n := int(labs.Add(1))
	l := &lab{t: t, bridge: fmt.Sprintf("br%d", n), net: fmt.Sprintf("10.77.%d.", n)}
	l.host = l.addr(1)
	l.dir = filepath.Join(shared.Dir, l.bridge)
	must(t, os.Mkdir(l.dir, 0o755))
	t.Cleanup(func() {
		if err := harness.UnmountBelow(l.dir); err != nil {
			t.Error(err)
		}
		harness.Run(t, "ip", "link", "del", l.bridge)
	})
	// An address of its own: else it takes one of its ports', and each port that
	// comes or goes would empty the neighbour table.
	harness.Run(t, "ip", "link", "add", l.bridge, "address", fmt.Sprintf("02:00:00:00:77:%02x", n), "type", "bridge")
	harness.Run(t, "ip", "addr", "add", l.net+"1/24", "dev", l.bridge)
	harness.Run(t, "ip", "link", "set", l.bridge, "up")
	l.startRouter(n)
	var err error
	l.store, err = images.Open(filepath.Join(l.state(), "images"))
	must(t, err)
	return l
}

func (l *lab) addr(host int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("%s%d", l.net, host))
}

func (l *lab) state() string { return filepath.Join(l.dir, "state") }

// startRouter starts the site's DHCP server on a machine of its own. Firmware
// and the system get addresses from different pools, with short leases.
func (l *lab) startRouter(n int) {
	l.t.Helper()
	script := fmt.Sprintf(`until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up; ip addr add %[1]s2/24 dev eth0; ip link set eth0 up
exec dnsmasq --no-daemon --conf-file=/dev/null --port=0 --bind-interfaces --interface=eth0 --no-ping \
	--dhcp-leasefile=%[2]s/leases --dhcp-vendorclass=set:system,udhcp \
	--dhcp-range=tag:!system,%[1]s50,%[1]s99,255.255.255.0,120 --dhcp-range=tag:system,%[1]s100,%[1]s149,255.255.255.0,120`, l.net, l.dir)
	cmd := exec.Command("sh", "-ec", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	log := harness.Log(filepath.Join(l.dir, "dnsmasq.log"))
	p := harness.Start(l.t, cmd, log)
	l.t.Cleanup(func() { p.Stop(5 * time.Second) })
	port := fmt.Sprintf("rt%d", n)
	harness.Run(l.t, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(cmd.Process.Pid))
	harness.Run(l.t, "ip", "link", "set", port, "master", l.bridge, "up")
	l.until(10*time.Second, "the site's DHCP server", func() error { return log.Said(0, "DHCP, IP range") })
}

// image imports a directory as the next version of an image, over base if not nil.
func (l *lab) image(name, dir string, base *images.Version) images.Version {
	l.t.Helper()
	v, _, err := importer.Import(l.t.Context(), l.store, name, dir, importer.Options{Base: base, Boot: images.BootFirmware, Reserve: 1})
	must(l.t, err)
	return v
}

// devices writes devices.yaml, as an editor does: by rename.
func (l *lab) devices(text string) {
	l.t.Helper()
	l.writeConfig("devices.yaml", "version: 1\n"+text)
}

func (l *lab) writeConfig(name, text string) {
	l.t.Helper()
	tmp := filepath.Join(l.dir, "."+name)
	must(l.t, os.WriteFile(tmp, []byte(text), 0o644))
	must(l.t, os.Rename(tmp, filepath.Join(l.dir, name)))
}

func (l *lab) until(limit time.Duration, what string, ok func() error) {
	l.t.Helper()
	harness.Until(l.t, limit, what, ok)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

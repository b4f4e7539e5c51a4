package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vlanSite makes a server whose card eth0 carries two networks: what is not tagged
// (10.88.0.0/24), and VLAN 10 (10.77.0.0/24). At the other end of its cable they are
// the bridges br1 and br0; only br0 has an address server.
const vlanSite = `mkdir -p /lib/modules; ln -s /usr/lib/uml/modules/$(uname -r) /lib/modules/
modprobe -a 8021q bridge veth tun af_packet
ip netns add server
ip link add trunk type veth peer name eth0 netns server
ip link add link trunk name trunk.10 type vlan id 10
ip -n server link add link eth0 name eth0.10 type vlan id 10
for b in br0 br1; do ip link add $b type bridge; ip link set $b up; done
ip link set trunk.10 master br0; ip link set trunk master br1
ip addr add 10.77.0.2/24 dev br0
ip -n server addr add 10.88.0.1/24 dev eth0
ip -n server addr add 10.77.0.1/24 dev eth0.10
for l in lo eth0 eth0.10; do ip -n server link set $l up; done
ip link set trunk up; ip link set trunk.10 up
dnsmasq --conf-file=/dev/null --user=root --pid-file= --port=0 --interface=br0 --bind-interfaces --no-ping \
	--dhcp-range=10.77.0.50,10.77.0.99,120 --dhcp-leasefile=/tmp/leases
`

// TestVLAN: boards on a VLAN boot from a server that is on another network too.
// (On a machine of Linux 6.1, as not every host has VLANs.)
func TestVLAN(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	tree := goldenTree(t, filepath.Join(l.dir, "golden"))
	must(t, os.WriteFile(filepath.Join(l.dir, "devices.yaml"), []byte("defaults: {image: lab}\ndevices:\n  - serial: b8223344\n  - serial: b8334455\n"), 0o644))
	s := l.newServerMachine(10)
	s.on()
	s.m.all(vlanSite)
	s.rubus("image import lab " + tree)
	rubus := fmt.Sprintf("%s --state %s --run /run/rubus --devices %s/devices.yaml --config /tmp/rubus.yaml ", shared.Plain, serverState, l.dir)

	for _, c := range []struct {
		listen string
		both   bool
	}{{"[eth0.10]", false}, {"[]", true}} {
		s.m.all("echo 'listen: " + c.listen + "' >/tmp/rubus.yaml")
		s.m.do("nsenter --net=/run/netns/server " + rubus + "serve >" + s.m.share + "/serve.log 2>&1 & rubus=$!")
		s.m.all("for i in {1..300}; do ! " + rubus + "status >/dev/null 2>&1 || exit 0; sleep 0.1; done; cat " + s.m.share + "/serve.log; exit 1")

		tagged := s.m.all(rubus + "simulate --model 4b --serial b8223344 --interface br0 --timeout 100s 2>&1")
		if !strings.Contains(tagged, "nfsroot=10.77.0.1:/b8223344/1") || strings.Contains(tagged, "10.88.0.") {
			t.Errorf("listen: %s: on the VLAN a board gets\n%s", c.listen, tagged)
		}
		// There it gets no address, whoever answers.
		untagged := s.m.all("! " + rubus + "simulate --model 4b --serial b8334455 --interface br1 --timeout 12s 2>&1")
		if strings.Contains(untagged, "OFFER from 10.88.0.1") != c.both || strings.Contains(untagged, "10.77.0.") {
			t.Errorf("listen: %s: beside the VLAN a board gets\n%s", c.listen, untagged)
		}
		s.m.do("kill $rubus; wait $rubus")
		log := s.m.all("cat " + s.m.share + "/serve.log")
		if strings.Contains(log, "level=ERROR") || strings.Contains(log, "interface=eth0 ") != c.both {
			t.Errorf("listen: %s: the server says\n%s", c.listen, log)
		}
	}
}

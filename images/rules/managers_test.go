package rules_test

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// onBoard runs as a board's system: $1 has Debian's programs, $2 what the rules changed, $3 is the
// case. eth0 is the root's interface, with the address that the initramfs asked for; the
// lease is to be renewed after 5 seconds. What it prints is "KEY VALUE". The interface is a veth:
// networkd is not told to leave those alone, and NetworkManager, for which a veth has no permanent
// address, knows it by its name.
const onBoard = `
tools=$1 layer=$2 what=$3
mount -t tmpfs tmpfs /run
mkdir -p /run/etc /run/work /run/dbus /run/log
for d in lib bin sbin share; do mount -t overlay -o "lowerdir=$tools/usr/$d:/usr/$d" usr "/usr/$d"; done
mount -t overlay -o "lowerdir=$layer/etc:$tools/etc:/etc,upperdir=/run/etc,workdir=/run/work" etc /etc
mount -t tmpfs tmpfs /var/lib
mount -t sysfs sysfs /sys
mkdir -p /var/lib/NetworkManager
case $what in *without*) rm -f /etc/NetworkManager/conf.d/* /etc/cloud/cloud-init.disabled && cp "$tools/etc/dhcpcd.conf" /etc/ ;; esac

unshare --net sleep infinity &
far=$!
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
peer=/proc/$far/ns/net
ip link set lo up
ip link add eth0 address 52:54:00:00:00:01 type veth peer name srv
ip link set srv netns $far
nsenter --net=$peer sh -c 'ip addr add 10.77.0.254/24 dev srv; ip link set srv up'
ip link set eth0 up
ip addr add 10.77.0.20/24 dev eth0
ip route add default via 10.77.0.254
nsenter --net=$peer dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=srv --bind-interfaces \
    --dhcp-range=10.77.0.20,10.77.0.30,2m --dhcp-host=52:54:00:00:00:01,10.77.0.20 --leasefile-ro \
    --dhcp-option-force=58,5 --dhcp-option-force=59,60 --dhcp-option=6,10.77.0.254 --log-facility=/run/log/dnsmasq &
until grep -q bound.exclusively /run/log/dnsmasq; do sleep 0.05; done 2>/dev/null
mount -o remount,ro /sys # as in a container: then nobody waits for udev

printf "IPV4DNS0='10.77.0.254'\n" >/run/net-eth0.conf
case $what in *without*) ;; *)
    sh "$layer/usr/lib/rubus/root-interface"
    sed -i /^Kind=/d /run/systemd/network/05-rubus.network
    sed -i s/mac:52:54:00:00:00:01$/interface-name:eth0/ /run/NetworkManager/conf.d/95-rubus.conf
    ;;
esac
ip monitor address >/run/log/addresses &
# told waits until what happened so far is written there: it is told of an address of lo.
told() {
    until grep -q "$1" /run/log/addresses; do
        ip addr add "$1/32" dev lo
        sleep 0.1
        ip addr del "$1/32" dev lo
    done
}
told 10.255.0.1
lost() { grep '^Deleted' /run/log/addresses | grep -c 'inet 10.77.0.20/' || true; }
has() { ip -4 -o addr show dev eth0 | grep -o '10[.0-9]*/' | tr '\n' ' '; }

case $what in
NetworkManager*)
    dbus-daemon --system --fork
    mkdir -p /etc/NetworkManager/system-connections
    profile=/etc/NetworkManager/system-connections/wired.nmconnection
    printf '[connection]\nid=wired\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1=10.99.0.1/24\n' >$profile
    chmod 600 $profile
    NetworkManager --debug --log-level=INFO >/run/log/manager 2>&1 &
    daemon=$!
    until grep -q 'startup complete' /run/log/manager; do sleep 0.1; done
    echo state "$(nmcli -t -f DEVICE,STATE device | sed -n 's/^eth0://p')"
    nmcli connection up wired >/dev/null 2>&1 && echo up taken || echo up refused
    ;;
dhcpcd*)
    mkdir -p /var/lib/dhcpcd
    dhcpcd -B -d --nodev >/run/log/manager 2>&1 &
    daemon=$!
    until grep -q 'no valid interfaces found\|leased 10' /run/log/manager; do sleep 0.1; done
    ;;
cloud-init*)
    # It runs for whatever it takes for a cloud, so that only the rule keeps it from running.
    printf 'policy: enabled\n' >/etc/cloud/ds-identify.cfg
    mkdir /run/normal /run/early /run/late
    sh "$tools/lib/systemd/system-generators/cloud-init-generator" /run/normal /run/early /run/late >/run/log/manager 2>&1
    echo state "$(cd /run/cloud-init && ls -d enabled disabled 2>/dev/null)"
    sleep infinity &
    daemon=$!
    ;;
networkd*)
    dbus-daemon --system --fork
    case $what in *IPv6*)
        mkdir -p /etc/systemd/network/05-rubus.network.d # as docs/images.md says it
        printf '[Network]\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=yes\n' >/etc/systemd/network/05-rubus.network.d/ipv6.conf
        echo 0123456789abcdef0123456789abcdef >/etc/machine-id # DHCPv6 wants one, and a board has one
        ;;
    esac
    /usr/lib/systemd/systemd-networkd 2>/run/log/manager &
    daemon=$!
    # The first is its own, the second renews that.
    until [ "$(grep -c DHCPACK /run/log/dnsmasq)" -ge 2 ]; do sleep 0.1; done
    echo state "$(networkctl --no-pager --no-legend list eth0 | awk '{ print $5 }')"
    echo discovers "$(grep -c DHCPDISCOVER /run/log/dnsmasq)"
    echo mode6 "$(cat /proc/sys/net/ipv6/conf/eth0/addr_gen_mode)"
    ;;
esac
echo runs "$(has)"
kill $daemon
wait $daemon || true
echo stopped "$(has)"
told 10.255.0.2
echo lost "$(lost)"
echo leases "$(grep -c DHCPACK /run/log/dnsmasq || true)"
echo resolv "$(readlink /etc/resolv.conf) $(cat /run/rubus/resolv.conf 2>/dev/null)"
kill $far`

// The real managers of networks, of Debian's packages, with what the rules gave them: the address of
// the root's interface is never away, also when they stop; the lease is renewed; the name
// server is there. Without the rules NetworkManager and dhcpcd take the interface.
func TestManagersLeaveTheAddress(t *testing.T) {
	t.Parallel()
	scripts := cmp.Or(os.Getenv("RUBUS_SCRIPTS"), "../../scripts")
	out, err := exec.Command(filepath.Join(scripts, "peer-tools"), "systems").Output()
	must(t, err)
	tools := strings.TrimSpace(string(out))
	conf, err := os.ReadFile(filepath.Join(tools, "etc/dhcpcd.conf"))
	must(t, err)
	layer := imported(t, with(systemd(), networkManager(), ifupdown(), cloudInit(), osRelease("debian", "bookworm"), tree{"etc/dhcpcd.conf": string(conf)}).write(t))[0]
	const resolv = "../run/rubus/resolv.conf nameserver 10.77.0.254"
	for what, want := range map[string]map[string]string{
		"NetworkManager":         {"state": "unmanaged", "up": "refused", "runs": "10.77.0.20/", "stopped": "10.77.0.20/", "lost": "0", "leases": "0", "resolv": resolv},
		"dhcpcd":                 {"runs": "10.77.0.20/", "stopped": "10.77.0.20/", "lost": "0", "leases": "0", "resolv": resolv},
		"networkd with IPv6":     {"state": "configured", "mode6": "0", "runs": "10.77.0.20/", "stopped": "10.77.0.20/", "lost": "0"},
		"networkd":               {"state": "configured", "mode6": "1", "discovers": "1", "runs": "10.77.0.20/", "stopped": "10.77.0.20/", "lost": "0", "resolv": resolv},
		"cloud-init":             {"state": "disabled", "runs": "10.77.0.20/"},
		"cloud-init without":     {"state": "enabled"},
		"NetworkManager without": {"up": "taken", "runs": "10.99.0.1/", "lost": "1"},
		"dhcpcd without":         {"lost": "1"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			c := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
				"sh", "-euc", onBoard, "board", tools, layer, what)
			var stderr strings.Builder
			c.Stderr = &stderr
			out, err := c.Output()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
			}
			got := map[string]string{}
			for l := range strings.Lines(string(out)) {
				k, v, _ := strings.Cut(l, " ")
				got[k] = strings.TrimSpace(v)
			}
			for k, w := range want {
				if got[k] != w {
					t.Errorf("%s is %q, want %q\n%s\n%s", k, got[k], w, out, stderr.String())
				}
			}
		})
	}
}

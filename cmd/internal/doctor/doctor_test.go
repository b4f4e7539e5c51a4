package doctor

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"

	"rubus/boot/fakepi"
)

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	held := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		name   string
		port   Port
		addrs  []netip.Addr
		own    func(string) bool
		level  Level
		phrase string
	}{
		{"free", Port{"udp", held, "TFTP", false}, loopback, nil, OK, "all 1 ports"},
		{"held", Port{"tcp", held, "NFS", false}, loopback, nil, Failure, "is held by doctor.test (pid"},
		{"by rubus itself", Port{"tcp", held, "NFS", false}, loopback, func(h string) bool { return strings.HasPrefix(h, "doctor") }, OK, "all 1 ports"},
		{"may be shared", Port{"tcp", held, "DHCP", true}, loopback, nil, Note, "is held by"},
		{"no address of this host", Port{"tcp", held, "NFS", false}, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil, Failure, "cannot be opened on 192.0.2.1"},
	} {
		got := Ports([]Port{c.port}, c.addrs, c.own)
		if len(got) != 1 || got[0].Level != c.level || !strings.Contains(got[0].What, c.phrase) {
			t.Errorf("%s: %+v, want %s %q", c.name, got, c.level, c.phrase)
		}
		if len(got) == 1 && got[0].Level != OK && got[0].Why == "" {
			t.Errorf("%s: does not say why it matters", c.name)
		}
	}
}

func TestInterface(t *testing.T) {
	if out, err := exec.Command("sh", "-ec", `ip link add doc0 type veth peer name doc1
		ip addr add 192.0.2.5/24 dev doc0; ip link set doc0 up; ip link set doc1 up
		ip link add doc2 type veth peer name doc3; ip link set doc2 up`).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	defer exec.Command("sh", "-c", "ip link del doc0; ip link del doc2").Run()
	waitRunning(t, "doc0", true)
	if f := Interface("doc0"); f.Level != OK || !strings.Contains(f.What, "192.0.2.5") {
		t.Errorf("a good one: %+v", f)
	}
	for name, phrase := range map[string]string{"doc2": "no IPv4 address", "nowhere0": "nowhere0"} {
		if f := Interface(name); f.Level != Failure || !strings.Contains(f.What, phrase) || f.Do == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if out, err := exec.Command("ip", "link", "set", "doc1", "down").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	waitRunning(t, "doc0", false)
	if f := Interface("doc0"); f.Level != Failure || !strings.Contains(f.What, "no link") {
		t.Errorf("without a link: %+v", f)
	}

	// A switch's BPDU reaches the interface.
	if out, err := exec.Command("ip", "link", "set", "doc1", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ifi, err := net.InterfaceByName("doc1")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, 0x0004, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Sent until it is heard: listening begins at its own time.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			_, _ = conn.WriteTo(bpdu(t), &packet.Addr{HardwareAddr: bpduGroup})
		}
	}()
	f, err := SpanningTree(t.Context(), "doc0", time.Minute)
	cancel()
	<-done
	if err != nil || f.Level != Warning || !strings.Contains(f.What, "15s") || !strings.Contains(f.Why, "30s") {
		t.Errorf("spanning tree: %+v, %v", f, err)
	}
}

// waitRunning waits until the kernel has noticed a change of a link: it does so
// some time after the command that made it.
func waitRunning(t *testing.T, name string, want bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for t.Context().Err() == nil {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if (ifi.Flags&net.FlagRunning != 0) == want {
			return
		}
		<-tick.C
	}
}

// bpdu is a configuration BPDU with a forward delay of 15 s, as a Linux bridge
// sends it.
func bpdu(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString("0180c2000000" + "020000000001" + "0026" + "424203" +
		"0000" + "00" + "00" + "00" + "8000020000000001" + "00000000" + "8000020000000001" + "8001" + "0000" + "1400" + "0200" + "0f00")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, 8)...)
}

func FuzzParseBPDU(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(append([]byte{}, bpduGroup...), make([]byte, 60)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, ok := parseBPDU(b); ok && (d < 0 || d >= 256*time.Second) {
			t.Errorf("a delay of %s", d)
		}
	})
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	good := func(context.Context, string) error { return nil }
	got := State(t.Context(), dir+"/not/there/yet", 0, good)
	if len(got) != 2 || got[0].Level != OK || !strings.HasSuffix(got[0].What, dir) {
		t.Errorf("a directory to be made: %+v", got)
	}
	got = State(t.Context(), dir, 0, func(context.Context, string) error { return errors.New("no handles") })
	if got[0].Level != Failure || got[0].What != "no handles" || got[0].Do == "" {
		t.Errorf("a bad file system: %+v", got)
	}
	if got = State(t.Context(), dir, 1<<60, good); got[1].Level != Failure || !strings.Contains(got[1].What, "MiB are free") {
		t.Errorf("a full one: %+v", got)
	}
}

func TestClock(t *testing.T) {
	built := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	if f := Clock(built.Add(-time.Hour), built); f.Level != Failure {
		t.Errorf("a clock before the program was made: %+v", f)
	}
	if f := Clock(built.Add(time.Hour), built); f.Level == Failure {
		t.Errorf("a clock that may be right: %+v", f)
	}
}

func TestFirewallRules(t *testing.T) {
	wanted := []Port{{"udp", 67, "DHCP", true}, {"udp", 69, "TFTP", false}, {"tcp", 2049, "NFS", false}, {"tcp", 2049, "NFS", false}}
	want := Rules{
		Nftables: []string{
			`nft add rule inet filter input iifname "br0" udp dport { 67, 69 } accept`,
			`nft add rule inet filter input iifname "br0" tcp dport { 2049 } accept`,
		},
		UFW: []string{"ufw allow in on br0 to any port 67,69 proto udp", "ufw allow in on br0 to any port 2049 proto tcp"},
		Firewalld: []string{
			"# zone of br0: firewall-cmd --get-zone-of-interface=br0",
			"firewall-cmd --permanent --add-port=67/udp", "firewall-cmd --permanent --add-port=69/udp",
			"firewall-cmd --permanent --add-port=2049/tcp", "firewall-cmd --reload",
		},
	}
	if diff := cmp.Diff(want, FirewallRules(wanted, []string{"br0"})); diff != "" {
		t.Error(diff)
	}
	if r := FirewallRules(wanted, nil); r.Nftables[0] != "nft add rule inet filter input udp dport { 67, 69 } accept" {
		t.Errorf("on all interfaces: %q", r.Nftables)
	}
	if !drops("chain input {\n\ttype filter hook input priority filter; policy drop;\n}") || drops("chain input {\n\ttype filter hook input priority filter; policy accept;\n}") {
		t.Error("an input chain's policy is misread")
	}
}

func TestSurvey(t *testing.T) {
	a := netip.MustParseAddr
	router := fakepi.Offer{Source: a("10.0.0.254"), Server: a("10.0.0.254"), Address: a("10.0.0.7")}
	router66 := router
	router66.TFTP, router66.TFTPText = a("10.0.0.254"), "10.0.0.254"
	ours := fakepi.Offer{Source: a("10.0.0.1"), Server: a("10.0.0.1"), Boot: true, TFTP: a("10.0.0.1")}
	second := fakepi.Offer{Source: a("10.0.0.253"), Server: a("10.0.0.253"), Address: a("10.0.0.9")}
	for _, c := range []struct {
		name   string
		offers []fakepi.Offer
		server string
		want   map[string]Level // by check, the worst
		phrase string
	}{
		{"silence", nil, "", map[string]Level{"dhcp": Failure, "boot servers": OK}, "no DHCP server"},
		{"a router", []fakepi.Offer{router}, "", map[string]Level{"dhcp": OK, "boot servers": OK}, "10.0.0.254 gives out"},
		{"a router and rubus", []fakepi.Offer{router, ours}, "10.0.0.1", map[string]Level{"dhcp": OK}, "10.0.0.254 gives out"},
		{"the router's option 66", []fakepi.Offer{router66}, "10.0.0.254", map[string]Level{"dhcp": OK, "boot servers": Failure}, "remove option 66"},
		{"siaddr alone", []fakepi.Offer{router}, "weak", map[string]Level{"dhcp": OK, "boot servers": OK}, "nobody else"},
		{"two routers", []fakepi.Offer{router, second}, "", map[string]Level{"dhcp": Warning, "boot servers": OK}, "2 DHCP servers"},
	} {
		h := fakepi.Heard{Model: fakepi.Models()[0], Offers: c.offers}
		switch c.server {
		case "":
		case "weak":
			h.Server, h.Weak = a("10.0.0.254"), true
		default:
			h.Server = a(c.server)
		}
		got, text := map[string]Level{}, ""
		for _, f := range Survey("br0", []fakepi.Heard{h}, []netip.Addr{a("10.0.0.1")}) {
			got[f.Check] = f.Level
			text += f.What + "\n" + f.Do + "\n"
		}
		if diff := cmp.Diff(c.want, got); diff != "" || !strings.Contains(text, c.phrase) {
			t.Errorf("%s: %s\n%s", c.name, diff, text)
		}
	}
}

func TestImage(t *testing.T) {
	root := func(names ...string) fstest.MapFS {
		m := fstest.MapFS{}
		for _, n := range names {
			m[n] = &fstest.MapFile{}
		}
		return m
	}
	for _, c := range []struct {
		name, phrase string
		boot         fstest.MapFS
		level        Level
	}{
		{"empty", "no config.txt", root(), Failure},
		{"no kernel", "no kernel", root("config.txt"), Failure},
		{"no firmware", "for no board", root("config.txt", "kernel8.img"), Failure},
		{"Pi 3 alone", "boot files for Pi 3; not for Pi 4 (no start4*.elf), Pi 5", root("config.txt", "vmlinuz-6", "bootcode.bin", "start.elf", "bcm2837-rpi-3-b.dtb"), OK},
		{"all", "boot files for Pi 3, Pi 4, Pi 5", root("config.txt", "kernel8.img", "bootcode.bin", "start.elf", "start4.elf",
			"bcm2710-rpi-3-b.dtb", "bcm2711-rpi-4-b.dtb", "bcm2712-rpi-5-b.dtb"), OK},
	} {
		if f := Image("lab@1", c.boot); f.Level != c.level || !strings.Contains(f.What, c.phrase) {
			t.Errorf("%s: %+v, want %s %q", c.name, f, c.level, c.phrase)
		}
	}
}

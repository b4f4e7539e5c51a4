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
			_, _ = conn.WriteTo(testBPDU(t), &packet.Addr{HardwareAddr: bpduGroup})
		}
	}()
	f, err := SpanningTree(t.Context(), "doc0", time.Minute)
	cancel()
	<-done
	if err != nil || f.Level != Warning || !strings.Contains(f.What, "8000.02:00:00:00:00:01") || !strings.Contains(f.What, "15s") || !strings.Contains(f.Why, "30s") {
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

// testBPDU is a configuration BPDU with a forward delay of 15 s, as a Linux bridge
// sends it.
func testBPDU(t *testing.T) []byte {
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
		if d, ok := parseBPDU(b); ok && (d.delay < 0 || d.delay >= 256*time.Second) {
			t.Errorf("a delay of %s", d.delay)
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
	oursAlone := ours
	oursAlone.Address = a("10.0.0.77")
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
		{"a router and rubus", []fakepi.Offer{router, ours}, "10.0.0.1", map[string]Level{"dhcp": OK, "boot servers": OK}, "10.0.0.254 gives out"},
		{"the router's option 66", []fakepi.Offer{router66}, "10.0.0.254", map[string]Level{"dhcp": OK, "boot servers": Failure}, "remove option 66"},
		{"siaddr alone", []fakepi.Offer{router}, "weak", map[string]Level{"dhcp": OK, "boot servers": OK}, "3b would try 10.0.0.254"},
		{"siaddr alone, beside rubus", []fakepi.Offer{router}, "weak beside", map[string]Level{"dhcp": OK, "boot servers": OK}, "names a server, unless devices.yaml names them: those are answered"},
		{"a router, beside rubus", []fakepi.Offer{router}, "beside", map[string]Level{"dhcp": OK, "boot servers": OK}, "3b find no server for their files, unless devices.yaml names them"},
		{"nobody else yet", []fakepi.Offer{router}, "", map[string]Level{"dhcp": OK, "boot servers": OK}, "3b find no server for their files yet"},
		{"two routers", []fakepi.Offer{router, second}, "", map[string]Level{"dhcp": Warning, "boot servers": OK}, "2 DHCP servers"},
		{"alone", nil, "alone", map[string]Level{"dhcp": OK, "boot servers": OK}, "rubus gives out addresses"},
		{"alone, rubus answers", []fakepi.Offer{oursAlone}, "alone", map[string]Level{"dhcp": OK, "boot servers": OK}, "from this machine, 10.0.0.1 (option 66)"},
		{"alone, and a router", []fakepi.Offer{router}, "alone", map[string]Level{"dhcp": Failure, "boot servers": OK}, "10.0.0.254"},
		{"forced, and a router", []fakepi.Offer{router}, "forced", map[string]Level{"dhcp": Warning, "boot servers": OK}, "10.0.0.254"},
	} {
		h := fakepi.Heard{Model: fakepi.Models()[0], Offers: c.offers}
		role := Beside
		switch c.server {
		case "", "beside":
		case "alone", "forced":
			role = map[string]DHCPRole{"alone": Alone, "forced": Forced}[c.server]
			if len(c.offers) > 0 && c.offers[0] == oursAlone {
				h.Server, h.Why = a("10.0.0.1"), "option 66"
			}
		case "weak", "weak beside":
			h.Server, h.Weak = a("10.0.0.254"), true
		default:
			h.Server = a(c.server)
		}
		got, text := map[string]Level{}, ""
		for _, f := range Survey("br0", []fakepi.Heard{h}, []netip.Addr{a("10.0.0.1")}, role, strings.HasSuffix(c.server, "beside")) {
			if got[f.Check] != Failure {
				got[f.Check] = f.Level
			}
			text += f.What + "\n" + f.Do + "\n"
		}
		if diff := cmp.Diff(c.want, got); diff != "" || !strings.Contains(text, c.phrase) {
			t.Errorf("%s: %s\n%s", c.name, diff, text)
		}
	}
}

func TestRange(t *testing.T) {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	at := []netip.Prefix{p("192.168.1.2/24"), p("10.0.0.1/24")}
	if f := Range(a("10.0.0.10"), a("10.0.0.20"), at); f.Level != OK || !strings.Contains(f.What, "10.0.0.0/24") {
		t.Errorf("%+v", f)
	}
	if f := Range(a("10.0.0.10"), a("10.0.1.20"), at); f.Level != Failure || f.Do == "" {
		t.Errorf("%+v", f)
	}
}

func TestImage(t *testing.T) {
	// What firmware wants is checked where it is known; here, that it is asked.
	pi3 := fstest.MapFS{
		"boot/firmware/CONFIG.TXT": {Data: []byte("arm_64bit=1\nkernel=vmlinuz-6\n")}, "boot/firmware/vmlinuz-6": {Data: []byte("\x00Linux version 6.1.0 (x@y) #1\n\x00")},
		"boot/firmware/bootcode.bin": {Data: []byte("b")}, "boot/firmware/start.elf": {Data: []byte("s")}, "boot/firmware/fixup.dat": {Data: []byte("f")},
		"boot/firmware/bcm2710-rpi-3-b.dtb": {Data: []byte("d")}, "usr/lib/modules/6.1.0/kernel/x.ko": {},
	}
	with := func(m fstest.MapFS, name, text string) fstest.MapFS {
		out := fstest.MapFS{name: {Data: []byte(text)}}
		for k, v := range m {
			if k != name {
				out[k] = v
			}
		}
		return out
	}
	for _, c := range []struct {
		name    string
		root    fstest.MapFS
		level   Level
		phrases []string
	}{
		{"empty", fstest.MapFS{}, Failure, []string{"for no board"}},
		{"Pi 3 alone", pi3, OK, []string{"can boot Pi 3;", "not Pi 4 (", "Pi 5 ("}},
		{"no kernel", with(pi3, "boot/firmware/CONFIG.TXT", "arm_64bit=1\nkernel=gone\n"), Failure, []string{"for no board", "gone"}},
		{"an SD card's fstab", with(pi3, "etc/fstab", "proc /proc proc defaults 0 0\n# PARTUUID=1 / ext4\nPARTUUID=abc-01 /boot/firmware vfat defaults 0 2\n"), Warning, []string{"PARTUUID=abc-01", "waits"}},
		{"an fstab that may stay", with(pi3, "etc/fstab", "proc /proc proc defaults 0 0\n10.0.0.1:/x /x nfs defaults 0 0\n"), OK, nil},
	} {
		got := Image("lab@1", c.root, "boot/firmware")
		worst, text := OK, ""
		for _, f := range got {
			text += f.What + "\n" + f.Why + "\n"
			if f.Level == Failure || f.Level == Warning && worst != Failure {
				worst = f.Level
			}
		}
		if worst != c.level {
			t.Errorf("%s: %s\n%s", c.name, worst, text)
		}
		for _, p := range c.phrases {
			if !strings.Contains(text, p) {
				t.Errorf("%s: no %q in\n%s", c.name, p, text)
			}
		}
	}
}

package dhcpserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"rubus/boot/neigh"
	"rubus/boot/pidhcp"
	"rubus/config/device"
)

// sh runs a script in the namespace of the calling thread.
func sh(t testing.TB, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// lan is a bridge br0 with our address, and a client "c" with a card eth0 in a
// namespace of its own, and another host there with an address.
func lan(t *testing.T, other string) (client, host string) {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil || len(links) != 1 {
		t.Fatalf("needs root and a network namespace of its own: go test -exec scripts/in-ns (%v)", err)
	}
	sh(t, `ip link add br0 type bridge forward_delay 0; ip addr add 10.0.0.1/24 dev br0; ip link set br0 up`)
	_, client = port(t, "c", "02:00:00:00:00:0c")
	ns, host := port(t, "s", "02:00:00:00:00:05")
	in(t, ns, func() { sh(t, "ip addr add "+other+"/24 dev eth0") })
	// Before the namespaces end, and the cards in them with them.
	t.Cleanup(func() { sh(t, "ip link del br0; ip link del v-c; ip link del v-s") })
	return client, host
}

// port is a host on the bridge with a card eth0; path names its namespace for
// programs.
func port(t *testing.T, name, mac string) (ns netns.NsHandle, path string) {
	t.Helper()
	in(t, 0, func() {
		var err error
		if ns, err = netns.New(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { ns.Close() })
	path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns))
	sh(t, fmt.Sprintf("ip link add v-%s type veth peer name eth0 address %s netns %s; ip link set v-%s master br0 up", name, mac, path, name))
	in(t, ns, func() { sh(t, "ip link set lo up; ip link set eth0 up") })
	return ns, path
}

// in runs f on a thread in a namespace; 0: in our own, from which f may go away.
func in(t testing.TB, ns netns.NsHandle, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with this
		if ns != 0 {
			if err := netns.Set(ns); err != nil {
				t.Error(err)
				return
			}
		}
		f()
	}()
	<-done
}

// wireProber asks as the daemon does.
type wireProber struct{ table *neigh.Table }

func (p wireProber) InUse(ctx context.Context, a netip.Addr, client device.MAC) (device.MAC, bool) {
	answer := p.table.Probe(ctx, a, client)
	return answer.MAC, answer.Verdict == neigh.Other
}

// serve runs a server until stop, and returns when it gives out addresses.
func serve(t *testing.T, dir string) (stop func()) {
	t.Helper()
	ready := make(chan string, 16)
	s := &Server{
		Interfaces: []string{"br0"}, Dir: dir, Directory: &fakeDirectory{},
		Pool:    Pool{First: netip.MustParseAddr("10.0.0.10"), Last: netip.MustParseAddr("10.0.0.11"), Lease: time.Hour, Domain: "lab"},
		Decider: deciderFunc(func(pidhcp.Sighting) bool { return true }),
		Prober:  wireProber{neigh.New(neigh.Options{Probes: 2, Interval: 100 * time.Millisecond})},
		Problem: func(iface, why string) {
			if iface == "br0" {
				ready <- why
			}
		},
		Listen: 200 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	select {
	case why := <-ready:
		if why != "" {
			stop()
			t.Fatal(why)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not serve")
	}
	return stop
}

// udhcpc gets a lease as a system does, and gives what it was told.
func udhcpc(t *testing.T, host string, args ...string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ $1 != bound ] || echo \"bound $ip/$mask $domain $serverid $lease\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{
		"--net=" + host, "busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-s", script, "-t", "15", "-T", "1", "-O", "domain",
	}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("udhcpc: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "bound "); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("udhcpc:\n%s", out)
	return ""
}

// A system's client gets a lease, and the same one after the server was killed;
// an address that another host has is not given to it. No other DHCP server can
// take the port meanwhile, and the kernel sends no "unreachable" for it.
func TestOnTheWire(t *testing.T) {
	client, _ := lan(t, "10.0.0.11")
	dir := t.TempDir()
	stop := serve(t, dir)
	want(t, "lease", udhcpc(t, client, "-a"), "10.0.0.10/24 lab 10.0.0.1 3600")
	if c, err := net.ListenPacket("udp4", "10.0.0.1:67"); err == nil {
		c.Close()
		t.Error("port 67 is free")
	}
	stop()
	stop = serve(t, dir)
	defer stop()
	want(t, "lease", udhcpc(t, client, "-r", "10.0.0.11"), "10.0.0.10/24 lab 10.0.0.1 3600")
	l, err := store{dir}.read(netip.MustParseAddr("10.0.0.11"))
	if err != nil || l.State != Conflict {
		t.Errorf("the address of another host: %+v, %v", l, err)
	}
}

// An interface that has an address of another network at the start, and gets that
// of the pool's later, is served from then on.
func TestAddressComesLaterOnTheWire(t *testing.T) {
	sh(t, `ip link add br0 type bridge forward_delay 0; ip addr add 192.168.9.1/24 dev br0; ip link set br0 up`)
	t.Cleanup(func() { sh(t, "ip link del br0") })
	type problem struct{ iface, why string }
	problems := make(chan problem, 16)
	s := &Server{
		Dir: t.TempDir(), Directory: &fakeDirectory{}, Pool: Pool{First: netip.MustParseAddr("10.0.0.20"), Last: netip.MustParseAddr("10.0.0.30"), Lease: time.Hour},
		Decider: deciderFunc(func(pidhcp.Sighting) bool { return true }), Prober: proberFunc(func(netip.Addr) bool { return false }),
		Problem: func(iface, why string) { problems <- problem{iface, why} }, Listen: 100 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if p := <-problems; p.iface != "" || p.why == "" {
		t.Errorf("without an address: %+v", p)
	}
	sh(t, "ip addr add 10.0.0.1/24 dev br0")
	late := time.After(time.Minute)
	for served := false; !served; {
		select {
		case p := <-problems:
			served = p.iface == "br0" && p.why == ""
		case <-late:
			t.Fatal("it is not served")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Beside a server that gives out addresses it is silent, and says why.
func TestBesideAnother(t *testing.T) {
	_, host := lan(t, "10.0.0.2")
	cmd := exec.Command("nsenter", "--net="+host, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0",
		"--log-facility=-", "--user=root", "--pid-file", "--no-ping", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"),
		"--interface=eth0", "--dhcp-range=10.0.0.50,10.0.0.60,2m")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	// It says so when its socket is there.
	for lines := bufio.NewScanner(said); ; {
		if !lines.Scan() {
			t.Fatalf("dnsmasq ended: %v", lines.Err())
		}
		if strings.Contains(lines.Text(), "DHCP, IP range") {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, said) }() // until its end
	why := make(chan string, 16)
	s := &Server{
		Dir: t.TempDir(), Directory: &fakeDirectory{}, Pool: Pool{First: netip.MustParseAddr("10.0.0.20"), Last: netip.MustParseAddr("10.0.0.30"), Lease: time.Hour},
		Decider: deciderFunc(func(pidhcp.Sighting) bool { return true }), Prober: proberFunc(func(netip.Addr) bool { return false }),
		Problem: func(_, w string) { why <- w }, Listen: 2 * time.Second,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for w := range why {
		if w == "" {
			continue
		}
		if !strings.Contains(w, "10.0.0.2 (02:00:00:00:00:05)") {
			t.Error(w)
		}
		break
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

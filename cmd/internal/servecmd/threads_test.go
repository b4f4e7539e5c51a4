package servecmd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/pin/tftp/v3"
	"github.com/vishvananda/netlink"

	"rubus/boot"
	"rubus/boot/nettest"
	"rubus/boot/sighting"
	"rubus/cmd/internal/cli"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/importer"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsload"
)

// TestThreads: the daemon has spare threads while it prepares a board, and while a call or a
// file of the board's waits for a disk, or may; no more than it needs otherwise.
func TestThreads(t *testing.T) {
	nettest.Private(t)
	was := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
	t.Setenv("GOMAXPROCS", "")
	want := func(when string, spare bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); runtime.GOMAXPROCS(0) > max(2, was) != spare; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d threads, and %d at first", when, runtime.GOMAXPROCS(0), was)
			}
		}
	}
	serial, err := device.ParseSerial("b8123456")
	must(t, err)
	board := boardAt(t, "10.77.0.50/24", serial.PiMAC())
	s := served(t, "version: 1\ndevices:\n  - {serial: b8123456, image: lab}\n")
	t.Cleanup(func() { must(t, s.fleet.Stop(context.Background(), serial)) })

	want("at first", false)
	s.fleet.Sight(sighting.Sighting{Serial: serial, MAC: serial.PiMAC(), Stage: "eeprom"})
	f, err := s.fleet.Open(t.Context(), boot.FileRequest{Path: "b8123456/config.txt", Client: netip.MustParseAddr("10.77.0.50"), Server: netip.MustParseAddr("10.77.0.1")})
	must(t, err)
	f.Close()
	want("a board was prepared", true)

	st, _ := s.fleet.Board(serial)
	var nfs, mount *nfsload.Conn
	board(func() {
		mount, err = nfsload.Dial("10.77.0.1:20048")
		must(t, err)
		nfs, err = nfsload.Dial("10.77.0.1:2049")
		must(t, err)
	})
	defer mount.Close()
	defer nfs.Close()
	root, err := mount.Mount(st.Path)
	must(t, err)
	want("nobody waits any more", false)
	r, err := nfs.Do(nfsload.Create(root, "file"))
	must(t, err)
	if st := nfs3.Status(r.Status()); st != nfs3.OK {
		t.Fatalf("CREATE: %v", st)
	}
	want("a file was made", true)
	want("nobody waits any more", false)
	board(func() {
		c, err := tftp.NewClient("10.77.0.1:69")
		must(t, err)
		file, err := c.Receive("b8123456/kernel8.img", "octet")
		must(t, err)
		_, err = file.WriteTo(io.Discard)
		must(t, err)
	})
	want("a file was sent", true)
	want("at last", false) // who comes next in this process has its own
}

// boardAt is a host of a MAC and an address on a link of ours, which has the first address of
// its network. What it gives runs a function there.
func boardAt(t *testing.T, cidr string, mac device.MAC) func(func()) {
	t.Helper()
	ns := nettest.New(t)
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerHardwareAddr: net.HardwareAddr(mac[:]), PeerNamespace: netlink.NsFd(ns)}
	v.Name = "lan0"
	must(t, netlink.LinkAdd(v))
	t.Cleanup(func() { must(t, netlink.LinkDel(v)) })
	at := netip.MustParsePrefix(cidr)
	nettest.Address(t, v.Name, netip.PrefixFrom(at.Masked().Addr().Next(), at.Bits()).String())
	must(t, netlink.LinkSetUp(v))
	nettest.Within(t, ns, func() {
		nettest.Address(t, "eth0", cidr)
		must(t, netlink.LinkSetUp(nettest.Link(t, "eth0")))
	})
	return func(f func()) { nettest.Within(t, ns, f) }
}

// served runs a daemon on a new state directory, with an image lab, until the test ends.
func served(t *testing.T, devices string) *server {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"image/sbin/init": "#!init", "image/boot/config.txt": "", "image/boot/cmdline.txt": "console=ttyS1\n", "image/boot/kernel8.img": "kernel",
		"rubus.yaml": "dhcp: {mode: off}\n", "devices.yaml": devices,
	} {
		must(t, errors.Join(os.MkdirAll(filepath.Dir(at(name)), 0o755), os.WriteFile(at(name), []byte(text), 0o755)))
	}
	must(t, os.Mkdir(at("state"), 0o755))
	store, err := images.Open(at("state/images"))
	must(t, err)
	_, _, err = importer.Import(t.Context(), store, "lab", at("image"), importer.Options{})
	must(t, err)
	g := &cli.Globals{State: at("state"), RunDir: at("run"), ConfigFile: at("rubus.yaml"), DevicesFile: at("devices.yaml")}
	must(t, os.Mkdir(g.RunDir, 0o755))
	conf, _, err := newReloader(g)
	must(t, err)
	s, err := newServer(t.Context(), g, conf, slog.New(slog.DiscardHandler))
	t.Cleanup(s.close)
	must(t, err)
	must(t, s.start(t.Context()))
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error)
	go func() { over <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		must(t, <-over)
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package flow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/go-nfs-client/nfs"
	"github.com/vmware/go-nfs-client/nfs/rpc"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/config/device"
)

// board is a simulated board: its firmware, and a small system that has its
// root over NFS.
type board struct {
	s     *site
	model string
	id    string
	mac   device.MAC
	port  string
	// observe, when not nil, sees the firmware at work.
	observe func(fakepi.Event)

	net  *netns // nil: switched off
	root *nfs.Target
}

// newBoard makes a board that is switched off.
func (s *site) newBoard(model, serial, mac string) *board {
	s.t.Helper()
	m, err := device.ParseMAC(mac)
	must(s.t, err)
	return &board{s: s, model: model, id: serial, mac: m, port: "p" + serial}
}

// firmware plays the board from power-on until it would start a kernel.
func (b *board) firmware(ctx context.Context) (*fakepi.Result, error) {
	b.s.t.Helper()
	pi, err := fakepi.NewBoard(b.model, parseSerial(b.s.t, b.id), b.mac)
	must(b.s.t, err)
	var tap *nic.Tap
	must(b.s.t, b.s.host.do(func() (err error) {
		tap, err = nic.OpenTap(bridge)
		return err
	}))
	defer tap.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	return fakepi.Run(ctx, pi, fakepi.Options{Link: tap, Patience: 2, Observe: b.observe})
}

// fetch is firmware that has to succeed.
func (b *board) fetch() *fakepi.Result {
	b.s.t.Helper()
	res, err := b.firmware(b.s.t.Context())
	if err != nil {
		for _, e := range res.Events {
			b.s.t.Logf("%8.3f %s %s %s %s", e.At.Seconds(), e.Stage, e.Kind, e.File, e.Text)
		}
		b.s.t.Fatalf("board %s: %v", b.id, err)
	}
	return res
}

// notServed is firmware that must find no boot server. Firmware asks for ever:
// it is given the time of several tries.
func (b *board) notServed() {
	b.s.t.Helper()
	ctx, cancel := context.WithTimeout(b.s.t.Context(), 12*time.Second)
	defer cancel()
	res, err := b.firmware(ctx)
	if err == nil || res.Server.IsValid() {
		b.s.t.Errorf("board %s was served by %v; it should not be", b.id, res.Server)
	}
}

var nfsroot = regexp.MustCompile(`nfsroot=([0-9.]+):([^,]+)`)

// up starts the board's system at an address: it mounts what the fetched
// command line says.
func (b *board) up(cmdline, addr string) {
	b.s.t.Helper()
	m := nfsroot.FindStringSubmatch(cmdline)
	if m == nil {
		b.s.t.Fatalf("no nfsroot in the command line %q", cmdline)
	}
	b.net = newNetns(b.s.t)
	b.s.plug(b.net, b.port, b.mac.String(), addr)
	b.s.t.Cleanup(b.off)
	var err error
	b.root, err = b.mount(m[1], m[2])
	must(b.s.t, err)
	// This client follows no symlinks, and Debian's init is one.
	if _, err = b.read("sbin/init"); err != nil {
		_, err = b.read("usr/lib/systemd/systemd")
	}
	must(b.s.t, err)
}

// boot is firmware and system.
func (b *board) boot(addr string) *fakepi.Result {
	b.s.t.Helper()
	res := b.fetch()
	b.up(res.Cmdline, addr)
	return res
}

// off pulls the plug.
func (b *board) off() {
	if b.net == nil {
		return
	}
	if b.root != nil {
		b.root.Close()
	}
	b.s.host.run(b.s.t, "ip", "link", "del", b.port)
	b.net, b.root = nil, nil
}

// mount asks for an export from the board. The client takes its source port at
// random from 0 to 1023, and 0 is any port: one call in a thousand comes from one
// that is not the system's and is refused.
func (b *board) mount(server, path string) (root *nfs.Target, err error) {
	for range 2 {
		err = b.net.do(func() error {
			m, err := nfs.DialMount(server)
			if err != nil {
				return err
			}
			defer m.Close()
			root, err = m.Mount(path, rpc.NewAuthUnix("board", 0, 0).Auth())
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "ACCES") {
			break
		}
	}
	return root, err
}

// read reads a file of the board's root, on the board.
func (b *board) read(path string) (string, error) {
	f, err := b.root.Open(path)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(f)
	return string(text), err
}

// write writes a file of the board's root, on the board.
func (b *board) write(path, text string) error {
	f, err := b.root.OpenFile(path, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	return errors.Join(err, f.Close())
}

// has is an error unless the board reads a text in a file.
func (b *board) has(path, text string) error {
	got, err := b.read(path)
	if err == nil && got != text {
		err = fmt.Errorf("%q holds %q, not %q", path, got, text)
	}
	return err
}

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/config/device"
)

// board is a simulated board's identity in a lab.
type board struct {
	l      *lab
	model  string
	serial device.Serial
	mac    device.MAC
	// os is the last byte of the address its system has: another one than its
	// firmware's.
	os int
}

// board names a board of a lab.
func (l *lab) board(model, serial, mac string, os int) *board {
	l.t.Helper()
	s, err := device.ParseSerial(serial)
	must(l.t, err)
	m, err := device.ParseMAC(mac)
	must(l.t, err)
	return &board{l: l, model: model, serial: s, mac: m, os: os}
}

// firmware plays the board's firmware from power-on to the kernel.
func (b *board) firmware() (*fakepi.Result, error) {
	b.l.t.Helper()
	link, err := nic.Open(b.l.bridge)
	must(b.l.t, err)
	defer link.Close()
	pi, err := fakepi.NewBoard(b.model, b.serial, b.mac)
	must(b.l.t, err)
	ctx, cancel := context.WithTimeout(b.l.t.Context(), 2*time.Minute)
	defer cancel()
	return fakepi.Run(ctx, pi, fakepi.Options{Link: link, Patience: 3})
}

// powerOn plays the firmware, which must succeed, and gives what the fetched
// command line says to mount.
func (b *board) powerOn() (server, path string) {
	b.l.t.Helper()
	r, err := b.firmware()
	if err != nil {
		if r != nil {
			for _, e := range r.Events {
				b.l.t.Logf("%v %s %s %s %s %s", e.At, e.Stage, e.Kind, e.File, e.Outcome, e.Text)
			}
		}
		b.l.t.Fatalf("the firmware of board %s: %v", b.serial, err)
	}
	return nfsroot(b.l.t, r.Cmdline)
}

// nfsroot finds server and path in a kernel's command line.
func nfsroot(t *testing.T, cmdline string) (server, path string) {
	t.Helper()
	for _, w := range strings.Fields(cmdline) {
		v, ok := strings.CutPrefix(w, "nfsroot=")
		if !ok {
			continue
		}
		v, _, _ = strings.Cut(v, ",")
		if server, path, ok = strings.Cut(v, ":"); ok {
			return server, path
		}
	}
	t.Fatalf("no nfsroot= in %q", cmdline)
	return "", ""
}

// boot powers the board on and starts a kernel that mounts the root it was
// told to, on /mnt/root.
func (b *board) boot() *machine {
	b.l.t.Helper()
	server, path := b.powerOn()
	m := b.l.machine(b.serial.String(), b.mac, b.os)
	m.mount(server, path)
	return m
}

package flow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"

	"github.com/vmware/go-nfs-client/nfs"
	"golang.org/x/sys/unix"
)

// A board that fills the disk is stopped at the reserve: rubus writes its own
// files, another board boots, and the space that is given back can be used.
func TestDiskReserve(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.smallDisk(512 << 20)
	const reserve = 192 << 20
	s.write("rubus.yaml", fmt.Sprintf("reserve: %d\n", reserve))
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.router(onePool)
	d := s.serve()
	a, b := s.newBoard("4b", serialA, macA), s.newBoard("4b", serialB, macB)
	a.boot("10.77.0.20")
	must(t, a.write("etc/mine", "written by A"))

	chunk := strings.Repeat("rubus", 200<<10)
	for _, n := range []int{len(chunk), 4096} { // the last of it, too
		var full error
		for i := 0; full == nil && i < 600; i++ {
			full = a.write(fmt.Sprintf("fill-%d-%d", n, i), chunk[:n])
		}
		if !isNoSpace(full) {
			t.Fatalf("the board filled the disk by %d bytes and got %v, not NFS3ERR_NOSPC", n, full)
		}
	}
	must(t, d.Said(0, "level=WARN", "below the reserve"))
	const own = 4 << 20 // rubus' own files grow meanwhile
	if free := s.free(); free < reserve-own {
		t.Errorf("%d KB are left of a reserve of %d KB", free>>10, reserve>>10)
	}
	s.failedImport(4 << 20)

	// It runs on, and can give back what it took.
	must(t, a.has("etc/mine", "written by A"))
	// Another board boots: its record, its upper and its mount are made.
	b.boot("10.77.0.21")
	if r := s.record(serialB); !r.Up || r.Address.String() != "10.77.0.21" {
		t.Errorf("device.json of the second board: up %v, address %s", r.Up, r.Address)
	}
	if err := b.write("etc/mine", "B"); !isNoSpace(err) {
		t.Errorf("the second board's write gets %v, not NFS3ERR_NOSPC", err)
	}
	for i := range 250 {
		_ = a.root.Remove(fmt.Sprintf("fill-%d-%d", len(chunk), i)) // the last ones are not there
	}
	harness.Until(t, 10*time.Second, "there is space again", func() error { return b.write("etc/mine", "B") })
	must(t, b.has("etc/mine", "B"))
	must(t, d.Said(0, "level=INFO", "above the reserve again"))

	// Another program leaves not a block: rubus starts all the same.
	fill := filepath.Join(s.state, "fill")
	f, err := os.Create(fill)
	must(t, err)
	for at, n := int64(0), int64(256<<20); n >= 4096; {
		if unix.Fallocate(int(f.Fd()), 0, at, n) == nil {
			at += n
		} else {
			n /= 2
		}
	}
	must(t, f.Close())
	d.Kill()
	d.Start()
	must(t, d.Said(d.From, "the disk of the state directory is full"))
	// Boards that reboot meanwhile have the roots they had.
	for _, x := range []struct {
		*board
		addr, mine string
	}{{a, "10.77.0.20", "written by A"}, {b, "10.77.0.21", "B"}} {
		x.off()
		x.boot(x.addr)
		must(t, x.has("etc/mine", x.mine))
		if err := x.write("etc/more", chunk); !isNoSpace(err) {
			t.Errorf("a write on the full disk gets %v, not NFS3ERR_NOSPC", err)
		}
	}
	must(t, os.Remove(fill))
	harness.Until(t, 10*time.Second, "there is space again", func() error { return a.write("etc/mine", "written anew") })
	must(t, a.has("etc/mine", "written anew"))
}

func isNoSpace(err error) bool {
	var e *nfs.Error
	return errors.As(err, &e) && e.ErrorNum == uint32(unix.ENOSPC)
}

package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"rubus/boot/record"
)

// TestTagMoved: a board that wrote keeps its file and its base, one that never
// did follows the tag, and an ephemeral one begins anew each time. The image has
// several layers: what a board looked at in them it did not write.
func TestTagMoved(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.threeLayers()
	l.devices(`defaults: {image: lab}
devices:
  - serial: b8123456
  - serial: b8223344
  - {serial: b8334455, overlay: ephemeral}
`)
	l.serve("quiet: 10s")
	wrote := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101)
	never := l.board("4b", "b8223344", "dc:a6:32:22:33:44", 102)
	fleeting := l.board("3b+", "b8334455", "b8:27:eb:33:44:55", 103)

	m1, m3 := wrote.boot(), fleeting.boot()
	for _, m := range []*machine{m1, m3} {
		m.all("echo mine >/mnt/root/home/mine; sync")
	}
	if got := never.look("etc/golden"); got != "golden\n" {
		t.Fatalf("the board that never wrote sees %q", got)
	}
	never.look("srv/data/deep/large") // of the bottom layer, in a directory of all
	first := l.slot(fleeting.serial, record.SlotCurrent)
	v := l.goldenNext()
	m1.cut()
	m3.cut()

	m1, m3 = wrote.boot(), fleeting.boot()
	m1.want("cat /mnt/root/home/mine /mnt/root/etc/golden", "mine\ngolden")
	m3.want("ls /mnt/root/home; cat /mnt/root/etc/golden", "newer")
	if got := never.look("etc/golden"); got != "newer\n" {
		t.Errorf("the board that never wrote sees %q, not what the tag means now", got)
	}
	if b, err := l.daemon.ask().Board(t.Context(), wrote.serial); err != nil || b.Available != v.Ref || b.Running == v.Ref {
		t.Errorf("status of the board that wrote: %+v, %v", b, err)
	}
	l.until(time.Minute, "the ephemeral board's earlier upper is removed", func() error {
		if _, err := os.Lstat(l.upper(fleeting.serial, first)); err == nil {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	m3.all("echo again >/mnt/root/home/again; sync; ls /mnt/root/etc")
}

// look boots the board and reads one file of its root, without a kernel.
func (b *board) look(names ...string) string {
	b.l.t.Helper()
	_, path := b.powerOn()
	s := b.l.station(b.mac.String(), b.os)
	defer s.close()
	st, h := s.mount(path)
	if st != 0 {
		b.l.t.Fatalf("MOUNT %s: status %d", path, st)
	}
	return s.read(s.walk(h, names[0]))
}

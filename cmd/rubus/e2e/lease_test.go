package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestLeaseMoves: a board's system gets another address and goes on; another
// card that takes an address of the board gets nothing.
func TestLeaseMoves(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.golden()
	l.devices("defaults: {image: lab}\ndevices:\n  - serial: b8123456\n")
	d := l.serve()
	b := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101)
	server, path := b.powerOn()
	m := l.machine("board", b.mac, 101)
	m.mount(server, path)
	m.all("echo before >/mnt/root/home/lease; sync")
	if got := l.record(b.serial).Address; got != l.addr(101) {
		t.Fatalf("the record says %v", got)
	}
	// The new address is the preferred one; the daemon's end breaks the
	// connection from the old one.
	m.all(fmt.Sprintf(`echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries
ip addr add %[1]s103/24 dev vec0
ip route replace %[1]s0/24 dev vec0 src %[1]s103`, l.net))
	d.Kill()
	d.Start()
	m.want("echo 3 >/proc/sys/vm/drop_caches; echo after >>/mnt/root/home/lease; sync; cat /mnt/root/home/lease", "before\nafter")
	m.all("ip addr del " + l.addr(101).String() + "/24 dev vec0")
	m.want("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/root/home/lease", "before\nafter")
	if got := l.record(b.serial).Address; got != l.addr(103) {
		t.Errorf("the record says %v, not the new address", got)
	}
	// The new address is known to the next daemon.
	d.Kill()
	d.Start()
	m.want("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/root/home/lease", "before\nafter")
	m.cut()

	// Another card at the same address.
	thief := l.station("02:00:00:00:66:01", 103)
	l.until(20*time.Second, "MOUNT by another card is refused", func() error {
		if st, _ := thief.mount(path); st != mntAcces {
			return fmt.Errorf("status %d", st)
		}
		return nil
	})
}

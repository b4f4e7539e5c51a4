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
	// Short timeouts: the client is to notice soon that its old address is gone.
	m.mount(server, path, "timeo=20", "retrans=1")
	m.all("echo before >/mnt/root/home/lease; sync")
	if got := l.record(b.serial).Address; got != l.addr(101) {
		t.Fatalf("the record says %v", got)
	}
	m.do("cd /; ip addr del " + l.addr(101).String() + "/24 dev vec0 && ip addr add " + l.addr(103).String() + "/24 dev vec0")
	m.want("echo 3 >/proc/sys/vm/drop_caches; echo after >>/mnt/root/home/lease; sync; cat /mnt/root/home/lease", "before\nafter")
	if got := l.record(b.serial).Address; got != l.addr(103) {
		t.Errorf("the record says %v, not the new address", got)
	}
	// The new address survives the daemon.
	d.kill()
	d.start()
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

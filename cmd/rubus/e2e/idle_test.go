package e2e

import (
	"strings"
	"testing"
	"time"

	"rubus/boot/record"
	"rubus/cmd/internal/control"
)

// idleFor is longer than a Linux client keeps a connection without calls, and
// longer than an export must be silent to be quiet.
const idleFor = 6*time.Minute + 15*time.Second

// TestIdle: two boards send nothing for more than six minutes. One has no entry
// any more; the other is ephemeral, and somebody asks for boots in its name.
func TestIdle(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.golden()
	const rest = "  - {serial: b8334455, overlay: ephemeral}\n  - serial: 11111111\n"
	l.devices("defaults: {image: lab}\ndevices:\n  - serial: b8123456\n" + rest)
	d := l.serve()
	removed := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101)
	fleeting := l.board("4b", "b8334455", "dc:a6:32:33:44:55", 102)
	boards := []*board{removed, fleeting}
	machines := []*machine{removed.boot(), fleeting.boot()}
	for _, m := range machines {
		m.hold()
		m.all("echo kept >/mnt/root/home/kept; sync")
	}
	from := len(d.Text(0))
	l.devices("defaults: {image: lab}\ndevices:\n" + rest)
	l.until(20*time.Second, "devices.yaml is read again", func() error { return d.Said(from, "configuration read again") })

	// What the kernel does after a mount is over soon; then nothing must come.
	calls := func(b *board) uint64 {
		st, err := d.ask().Board(t.Context(), b.serial)
		must(t, err)
		return st.Calls
	}
	begin := time.Now()
	settled := [2]uint64{}
	for round := 1; time.Since(begin) < idleFor; round++ {
		select {
		case <-time.After(30 * time.Second):
		case <-t.Context().Done():
			t.Fatal("the test is over")
		}
		if round == 1 {
			settled = [2]uint64{calls(removed), calls(fleeting)}
		}
		if round%3 == 0 {
			// The forger has the board's own MAC: all but the MOUNT. Whom the bridge
			// gives the answers is a matter of who spoke last, so not all may come.
			if r, err := fleeting.firmware(); r == nil || !r.Server.IsValid() {
				t.Errorf("round %d: the forger's DHCP requests: %v", round, err)
			}
			thief := l.board("4b", "b8334455", "dc:a6:32:66:66:66", 0)
			if _, err := thief.firmware(); err == nil {
				t.Errorf("round %d: another MAC was served the board's files", round)
			}
		}
		for _, b := range boards {
			err := d.ask().Reset(t.Context(), b.serial, control.ResetOptions{}, nil)
			if err == nil || !strings.Contains(err.Error(), "up") {
				t.Errorf("reset of idle board %s: %v", b.serial, err)
			}
		}
	}
	for i, b := range boards {
		if n := calls(b); n != settled[i] {
			t.Errorf("board %s was not idle: %d calls, then %d", b.serial, settled[i], n)
		}
		l.slot(b.serial, record.SlotCurrent)
		machines[i].holds()
		machines[i].want("cat /mnt/root/home/kept", "kept")
	}
	// One empty directory is all a forger can leave; that he leaves one shows
	// that he was heard.
	if r := l.record(fleeting.serial); len(r.Slots) != 2 {
		t.Errorf("forged requests left %d slots: %+v", len(r.Slots), r.Slots)
	}
}

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rubus/boot/record"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/config/device"
)

// serverMachine is rubus on a machine of its own: Linux 6.1 with its state on
// an ext4 disk, and an empty /run at each start.
type serverMachine struct {
	l    *lab
	m    *machine
	disk string
	host int
	// state and config are where rubus is told to look.
	state, config string
	options       []string // of scripts/uml
}

const serverState = "/mnt/disk/state"

// newServerMachine makes the machine with its disk; it is off.
func (l *lab) newServerMachine(host int) *serverMachine {
	l.t.Helper()
	s := &serverMachine{l: l, disk: filepath.Join(l.dir, "disk.img"), host: host, state: serverState, config: l.dir + "/none.yaml"}
	must(l.t, os.WriteFile(s.disk, nil, 0o600))
	must(l.t, os.Truncate(s.disk, 2<<30))
	return s
}

// on starts the machine.
func (s *serverMachine) on() {
	s.l.t.Helper()
	mac, err := device.ParseMAC("02:00:00:00:55:01")
	must(s.l.t, err)
	s.m = s.l.machine("server", mac, s.host, append([]string{"--ubd", s.disk, "--mount", "/mnt/disk"}, s.options...)...)
}

// command is rubus with the options that all verbs take.
func (s *serverMachine) command() string {
	return fmt.Sprintf("%s --state %s --run /run/rubus --devices %s/devices.yaml --config %s ", shared.Plain, s.state, s.l.dir, s.config)
}

// rubus runs the command on the machine.
func (s *serverMachine) rubus(args string) string {
	s.l.t.Helper()
	return s.m.all(s.command() + args)
}

// serve starts the daemon on the machine and waits until it serves.
func (s *serverMachine) serve() {
	s.l.t.Helper()
	s.m.all("[[ ! -e /run/rubus ]]; ! grep rubus: /proc/self/mountinfo")
	s.launch()
}

// launch is serve on a machine where rubus has run before.
func (s *serverMachine) launch() {
	s.l.t.Helper()
	log := harness.Log(s.m.share + "/serve.log")
	from := log.End()
	s.m.do(fmt.Sprintf("%s serve >>%s 2>&1 & rubus=$!", s.command(), log))
	s.l.t.Cleanup(func() {
		if said := log.Text(0); said != "" && s.l.t.Failed() {
			s.l.t.Logf("rubus on the server machine:\n%s", harness.LastLines(said, 40))
		}
	})
	s.l.until(time.Minute, "rubus serves on the server machine", func() error { return log.Said(from, "msg=serving") })
}

// record is a board's device.json as it is on the machine's disk.
func (s *serverMachine) record(b *board) record.Record {
	s.l.t.Helper()
	dir := filepath.Join(s.m.share, "copy/devices", b.serial.String())
	s.m.all(fmt.Sprintf("mkdir -p %s; cat %s/devices/%s/device.json >%[1]s/device.json", dir, s.state, b.serial))
	r, err := harness.Record(s.m.share+"/copy", b.serial)
	must(s.l.t, err)
	return r
}

// TestServerPowerCut: the power of the server machine goes while boards run,
// and the tag moves before. Mounts are gone and made again; boards see a pause.
func TestServerPowerCut(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.devices(`defaults: {image: lab}
devices:
  - serial: b8123456
  - {serial: b8334455, overlay: ephemeral}
`)
	trees := []string{filepath.Join(l.dir, "golden"), filepath.Join(l.dir, "newer")}
	goldenTree(t, trees[0])
	goldenTree(t, trees[1])
	must(t, os.WriteFile(trees[1]+"/etc/golden", []byte("newer\n"), 0o644))

	s := l.newServerMachine(10)
	s.on()
	s.rubus("image import lab " + trees[0])
	s.serve()
	lasting, fleeting := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101), l.board("4b", "b8334455", "dc:a6:32:33:44:55", 102)
	m1, m2 := lasting.boot(), fleeting.boot()
	for _, m := range []*machine{m1, m2} {
		m.hold()
		m.all("echo kept >/mnt/root/home/kept; sync; ls -R /mnt/root/srv >/dev/null")
	}
	w := m1.startWriter("home/log")
	// By now the board's kernel knows this file's handle, and after the first cut
	// the server's knows no path of it.
	m1.do("exec 6<>/mnt/root/etc/motd")
	s.rubus("image import lab " + trees[1])

	cuts := rounds(2, 15)
	for range cuts {
		before := s.record(fleeting)
		s.m.cut()
		s.on()
		s.serve()
		w.goesOn(3 * time.Minute)
		m1.do("echo a golden file, written to >&6 && sync /mnt/root/etc/motd")
		if after := s.record(fleeting); len(after.Slots) != 1 || after.Slots[0].N != before.Slots[0].N || after.Slots[0].Export != before.Slots[0].Export {
			t.Errorf("the ephemeral board's slots were %+v, and are %+v", before.Slots, after.Slots)
		}
	}
	m1.want("echo 3 >/proc/sys/vm/drop_caches; head -n 1 /mnt/root/etc/motd", "a golden file, written to")
	for _, m := range []*machine{m1, m2} {
		m.holds()
		m.want("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/root/home/kept /mnt/root/etc/golden", "kept\ngolden")
	}
	t.Logf("%d acknowledged records, %d power cuts", w.end(), cuts)
}

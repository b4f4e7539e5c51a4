package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"
)

// writing is a writer on a machine, see package writer.
type writing struct {
	m   *machine
	dir string
}

// startWriter lets a machine write to a directory of its root, without end.
func (m *machine) startWriter(dir string) *writing {
	m.t.Helper()
	m.all("mkdir -p /mnt/root/" + dir)
	m.do(fmt.Sprintf("%s write /mnt/root/%s %s/acks %[3]s/stop >%[3]s/writer.log 2>&1 & writer=$!", shared.writer, dir, m.share))
	w := &writing{m, dir}
	w.goesOn(time.Minute)
	return w
}

// acks is the number of the last acknowledged record.
func (w *writing) acks() uint64 {
	w.m.t.Helper()
	b, err := os.ReadFile(w.m.share + "/acks")
	if err != nil || len(b) < 20 {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	must(w.m.t, err)
	return n
}

// goesOn waits until more was acknowledged.
func (w *writing) goesOn(limit time.Duration) {
	w.m.t.Helper()
	from := w.acks()
	harness.Until(w.m.t, limit, "the writer goes on", func() error {
		if n := w.acks(); n < from+25 {
			said, _ := os.ReadFile(w.m.share + "/writer.log")
			return fmt.Errorf("acknowledged: %d, then %d; %s", from, n, said)
		}
		return nil
	})
}

// end ends the writer and has the machine look for all that was acknowledged.
func (w *writing) end() uint64 {
	w.m.t.Helper()
	must(w.m.t, os.WriteFile(w.m.share+"/stop", nil, 0o644))
	w.m.do("wait $writer")
	n := w.acks()
	w.m.all("echo 3 >/proc/sys/vm/drop_caches")
	w.m.all(fmt.Sprintf("%s check /mnt/root/%s %d", shared.writer, w.dir, n))
	return n
}

// hold lets the machine hold an open file, a deleted open file, and stand in a
// directory of its root.
func (m *machine) hold() {
	m.t.Helper()
	m.do(`cd /mnt/root/srv/data && mkdir -p stand && printf 'one\ntwo\n' >held && printf 'gone one\ngone two\n' >gone &&
exec 7<held && read -r a <&7 && exec 8<>gone && rm gone && read -r b <&8 && cd stand && [[ $a == one && $b == "gone one" ]]`)
}

// holds says that what hold took is still good.
func (m *machine) holds() {
	m.t.Helper()
	m.do("echo 3 >/proc/sys/vm/drop_caches")
	m.do(`read -r a <&7 || a=lost; cat /mnt/root/srv/data/held >/dev/null && ls -a . >/dev/null && echo here >file && [[ $a == two ]]`)
	m.do(`echo 'gone three' >&8 && sync && [[ ! -e ../gone ]]`)
}

// TestDaemonKilled: kill -9 of the daemon at any moment, under a client that
// writes and a storm on its names, is a pause. No error, nothing lost, and what
// was open before stays good.
func TestDaemonKilled(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	tree := goldenTree(t, t.TempDir())
	sow(t, tree)
	l.image("lab", tree, nil)
	l.devices("defaults: {image: lab}\ndevices:\n  - serial: b8123456\n")
	d := l.serve()
	b := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101)
	m := b.boot()
	m.hold()
	w := m.startWriter("home")
	s := m.startStorm(stormSeed(t))
	root := l.root(b.serial, l.slot(b.serial, "current"))
	id := mountID(t, root)
	kills := rounds(20, 500)
	for i := range kills {
		s.moment()
		d.Kill()
		if i%4 == 3 { // and once more while it gets up
			d.Launch()
			time.Sleep(time.Duration(s.rnd.IntN(600)) * time.Millisecond)
			d.Kill()
		}
		d.Start()
		if got := mountID(t, root); got != id {
			t.Fatalf("the root was mounted anew: mount %d, before %d", got, id)
		}
	}
	w.goesOn(2 * time.Minute)
	s.goesOn()
	again := m.sentAgain()
	if again == 0 {
		t.Errorf("no kill came between a call and its answer")
	}
	m.holds()
	n := w.end()
	harness.Run(t, shared.writer, "check", filepath.Join(root, "home"), fmt.Sprint(n))
	s.end()
	seen := s.compare("the client", m, "/mnt/root")
	seen.mustBe(t, false)
	found, err := parseFindings(harness.Run(t, shared.writer, "compare", root+stormDir, s.journals()))
	must(t, err)
	found.who = "the server"
	found.mustBe(t, false)
	t.Logf("%d kills: %d acknowledged records, %d ops in the storm, %d calls that must not be done twice were sent again, %d directories were removed after a wait for the client", kills, n, seen.ops, again, seen.waited)
}

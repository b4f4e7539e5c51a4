package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/fakepi/child"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/config/device"
)

// machine is a Linux 6.1 in User Mode Linux that does what it is told: each
// command is a script in a shared directory, sourced by one shell, so that what
// that shell opens and where it stands last from command to command.
type machine struct {
	t     *testing.T
	name  string
	share string // the same path on both sides
	p     *child.Process
	n     int
}

// agent is the machine's shell. It waits without a process of its own: a fork
// is slow there.
const agent = `share=$1
mkfifo /tmp/never; exec 9<>/tmp/never
n=1
: >"$share/ready"
while :; do
	if [[ ! -e $share/do.$n ]]; then read -r -t 0.1 -u 9 _; continue; fi
	source "$share/do.$n" >"$share/out.$n" 2>&1
	echo $? >"$share/.rc.$n"
	mv "$share/.rc.$n" "$share/rc.$n"
	n=$((n + 1))
done
`

// machine starts a machine on the lab's bridge. It is gone with the test.
func (l *lab) machine(name string, mac device.MAC, host int, options ...string) *machine {
	l.t.Helper()
	l.taps++
	tap := fmt.Sprintf("t%s-%d", strings.TrimPrefix(l.bridge, "br"), l.taps)
	m := &machine{t: l.t, name: name, share: filepath.Join(l.dir, fmt.Sprintf("%s-%d", name, l.taps))}
	must(l.t, os.MkdirAll(m.share+"/tmp", 0o755))
	must(l.t, os.MkdirAll(m.share+"/scripts", 0o755))
	must(l.t, os.WriteFile(m.share+"/agent", []byte(agent), 0o755))
	// What a killed machine leaves in /tmp goes with the lab. The checkout may
	// be below /tmp too, so its scripts move out first.
	args := []string{
		"-ec", `mount --bind "$1" "$2/scripts"; mount --bind "$2/tmp" /tmp; shift 2; exec "$@"`, "sh", shared.Scripts, m.share,
		m.share + "/scripts/uml", "run", "--share", m.share, "--tap", tap, "--bridge", l.bridge, "--mac", mac.String(),
		"--ip", l.addr(host).String() + "/24", "--mem", "256M", "--timeout", fmt.Sprint(rounds(1500, 4*3600)),
	}
	args = append(append(args, options...), "--", "/bin/bash", m.share+"/agent", m.share)
	cmd := exec.Command("sh", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Setpgid: true}
	log := harness.Log(m.share + "/log")
	m.p = harness.Start(l.t, cmd, log)
	l.t.Cleanup(func() {
		m.p.Stop(20 * time.Second)
		if said := log.Text(0); l.t.Failed() && said != "" {
			l.t.Logf("machine %s said:\n%s", name, harness.LastLines(said, 20))
		}
	})
	l.until(90*time.Second, "machine "+name+" boots", func() error { return m.there("ready") })
	return m
}

// there is an error while the shared directory has no file of a name.
func (m *machine) there(name string) error {
	select {
	case <-m.p.Done():
		b, _ := os.ReadFile(m.share + "/log")
		m.t.Fatalf("machine %s is dead: %v\n%s", m.name, m.p.Err(), b)
	default:
	}
	_, err := os.Stat(filepath.Join(m.share, name))
	return err
}

// begin gives the machine something to do and does not wait.
func (m *machine) begin(script string) int {
	m.t.Helper()
	m.n++
	tmp := filepath.Join(m.share, "do.tmp")
	must(m.t, os.WriteFile(tmp, []byte(script+"\n"), 0o644))
	must(m.t, os.Rename(tmp, filepath.Join(m.share, fmt.Sprintf("do.%d", m.n))))
	return m.n
}

// end waits for the end of what was begun.
func (m *machine) end(n int, limit time.Duration) (out string, code string) {
	m.t.Helper()
	harness.Until(m.t, limit, fmt.Sprintf("command %d of machine %s", n, m.name), func() error { return m.there(fmt.Sprintf("rc.%d", n)) })
	b, err := os.ReadFile(filepath.Join(m.share, fmt.Sprintf("out.%d", n)))
	must(m.t, err)
	rc, err := os.ReadFile(filepath.Join(m.share, fmt.Sprintf("rc.%d", n)))
	must(m.t, err)
	return string(b), strings.TrimSpace(string(rc))
}

// commandLimit is how long a command may take: a hard mount waits for its
// server, which may be under way again.
const commandLimit = 2 * time.Minute

// try runs a script in the machine's own shell and says how its last command ended.
func (m *machine) try(script string) (string, error) {
	m.t.Helper()
	out, code := m.end(m.begin(script), commandLimit)
	if code != "0" {
		return out, fmt.Errorf("exit code %s", code)
	}
	return out, nil
}

// do runs a script in the machine's own shell; its last command must succeed.
func (m *machine) do(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		m.t.Fatalf("on machine %s: %s\n%v\n%s", m.name, script, err, out)
	}
	return out
}

// all runs a script each command of which must succeed.
func (m *machine) all(script string) string {
	m.t.Helper()
	return m.do("( set -e\n" + script + "\n)")
}

// mount mounts an export on /mnt/root as a Pi's kernel does.
func (m *machine) mount(server, path string, options ...string) {
	m.t.Helper()
	m.all(fmt.Sprintf(`mkdir -p /mnt/root
mount -w -i -t nfs -o addr=%[1]s,vers=3,proto=tcp,mountproto=tcp,nolock,hard,rw%[3]s %[1]s:%[2]s /mnt/root`, server, path, strings.Join(append([]string{""}, options...), ",")))
}

// want fails the test unless a script prints this.
func (m *machine) want(script, text string) {
	m.t.Helper()
	if got := m.all(script); strings.TrimSpace(got) != text {
		m.t.Errorf("on machine %s, %q: %q, want %q", m.name, script, strings.TrimSpace(got), text)
	}
}

// cut is a power cut.
func (m *machine) cut() {
	m.t.Helper()
	must(m.t, m.p.Signal(syscall.SIGKILL))
	<-m.p.Done()
	harness.Run(m.t, "flock", "--timeout", "20", m.alive(), "true")
}

// alive is a lock that every process of the machine holds.
func (m *machine) alive() string {
	m.t.Helper()
	found, err := filepath.Glob(m.share + "/tmp/rubus-uml.*/alive")
	must(m.t, err)
	if len(found) != 1 {
		m.t.Fatalf("machine %s has %d directories of scripts/uml", m.name, len(found))
	}
	return found[0]
}

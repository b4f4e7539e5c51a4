package harness

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"rubus/boot/fakepi/child"
)

// Daemon is a "rubus serve" and what it says.
type Daemon struct {
	Log
	From int // where in the log its present run begins

	t       testing.TB
	command func() *exec.Cmd
	p       *child.Process
}

// NewDaemon is a daemon that does not run yet. command makes the program of one
// run. With the test the daemon ends, and must end well and without a race.
func NewDaemon(t testing.TB, log Log, command func() *exec.Cmd) *Daemon {
	t.Helper()
	d := &Daemon{Log: log, t: t, command: command}
	t.Cleanup(func() {
		d.Stop()
		if text := d.Text(0); t.Failed() {
			t.Logf("the daemon's log:\n%s", LastLines(text, 80))
		} else if i := strings.Index(text, "DATA RACE"); i >= 0 {
			t.Errorf("the daemon has a race:\n%s", text[i:])
		}
	})
	return d
}

// Launch starts the daemon.
func (d *Daemon) Launch() {
	d.t.Helper()
	d.From = d.End()
	d.p = Start(d.t, d.command(), d.Log)
}

// Start starts the daemon and waits until it serves.
func (d *Daemon) Start() {
	d.t.Helper()
	d.Launch()
	Until(d.t, 30*time.Second, "rubus serves", func() error {
		d.Alive()
		return d.Said(d.From, "msg=serving")
	})
}

// Alive fails the test when the daemon has ended.
func (d *Daemon) Alive() {
	d.t.Helper()
	if d.ended() {
		d.t.Fatalf("rubus ended: %v\n%s", d.p.Err(), LastLines(d.Text(d.From), 40))
	}
}

func (d *Daemon) ended() bool {
	select {
	case <-d.p.Done():
		return true
	default:
		return false
	}
}

// Pid is the process id of the present run.
func (d *Daemon) Pid() int { return d.p.Pid() }

// Signal sends the daemon a signal.
func (d *Daemon) Signal(sig syscall.Signal) {
	d.t.Helper()
	must(d.t, d.p.Signal(sig))
}

// Kill is kill -9.
func (d *Daemon) Kill() {
	d.t.Helper()
	d.Signal(syscall.SIGKILL)
	<-d.p.Done()
}

// Stop ends the daemon, if it runs, as systemd does; it must end well.
func (d *Daemon) Stop() {
	d.t.Helper()
	if d.p == nil || d.ended() {
		return
	}
	d.p.Stop(90 * time.Second) // systemd's own patience
	if err := d.p.Err(); err != nil {
		d.t.Errorf("rubus did not end cleanly: %v", err)
	}
}

package flow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rubus/boot/fakepi/child"
	"rubus/boot/record"
	"rubus/cmd/internal/control"
	"rubus/config/device"
)

// server is a running "rubus serve" and what it says.
type server struct {
	s    *site
	p    *child.Process
	log  string
	from int // where in the log its present run begins
}

// env is how the site's files are named to the command.
func (s *site) env() []string {
	return append(os.Environ(), "RUBUS_STATE="+s.state, "RUBUS_RUN="+filepath.Join(s.dir, "run"),
		"RUBUS_CONFIG="+filepath.Join(s.dir, "rubus.yaml"), "RUBUS_DEVICES="+filepath.Join(s.dir, "devices.yaml"))
}

// serve starts the daemon and waits until it serves.
func (s *site) serve() *server { return s.serveWith(shared.rubus) }

func (s *site) serveWith(binary string) *server {
	s.t.Helper()
	d := &server{s: s, log: filepath.Join(s.dir, "rubus.log")}
	s.t.Cleanup(func() {
		d.stop()
		if text := d.text(0); s.t.Failed() {
			s.t.Logf("the daemon's log:\n%s", lastLines(text, 80))
		} else if i := strings.Index(text, "DATA RACE"); i >= 0 {
			s.t.Errorf("the daemon has a race:\n%s", text[i:])
		}
	})
	d.start(binary)
	return d
}

func (d *server) start(binary string) {
	t := d.s.t
	t.Helper()
	f, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer f.Close()
	d.from = len(d.text(0))
	cmd := d.s.host.command(context.Background(), binary, "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = d.s.env(), f, f
	d.p, err = child.Start(cmd)
	must(t, err)
	until(t, 30*time.Second, "rubus serves", func() error {
		select {
		case <-d.p.Done():
			t.Fatalf("rubus ended: %v\n%s", d.p.Err(), d.text(d.from))
		default:
		}
		return d.said(d.from, "msg=serving")
	})
}

// stop ends the daemon as systemd does; it must end well.
func (d *server) stop() {
	select {
	case <-d.p.Done():
		return
	default:
	}
	d.p.Stop(90 * time.Second) // systemd's own patience
	if err := d.p.Err(); err != nil {
		d.s.t.Errorf("rubus did not end cleanly: %v", err)
	}
}

// signal sends the daemon a signal.
func (d *server) signal(sig syscall.Signal) { must(d.s.t, d.p.Signal(sig)) }

// text is the log from an offset on.
func (d *server) text(from int) string {
	b, _ := os.ReadFile(d.log) // not there yet: empty
	return string(b[min(from, len(b)):])
}

// end is where the log ends now.
func (d *server) end() int { return len(d.text(0)) }

// said is an error while no line of the log from an offset on has all words.
func (d *server) said(from int, words ...string) error {
	for line := range strings.Lines(d.text(from)) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("the log has no line with %q", words)
}

// client speaks to the daemon's control socket.
func (s *site) client() *control.Client {
	return control.NewClient(filepath.Join(s.dir, "run/control.sock"))
}

// status asks the daemon for all it knows.
func (s *site) status() control.Status {
	s.t.Helper()
	st, err := s.client().Status(s.t.Context())
	must(s.t, err)
	return st
}

// board asks the daemon for one board; the zero Board when it knows none.
func (s *site) board(serial string) control.Board {
	s.t.Helper()
	b, err := s.client().Board(s.t.Context(), parseSerial(s.t, serial))
	var e *control.Error
	if errors.As(err, &e) && e.Kind == control.KindNotFound {
		return control.Board{}
	}
	must(s.t, err)
	return b
}

// waitPhase waits for a board to come into a phase.
func (s *site) waitPhase(limit time.Duration, serial, phase string) {
	s.t.Helper()
	until(s.t, limit, fmt.Sprintf("board %s is %s", serial, phase), func() error {
		if b := s.board(serial); b.Phase != phase {
			return fmt.Errorf("phase %q, up %q, problem %q, refusal %q", b.Phase, b.Up, b.Problem, b.Refusal)
		}
		return nil
	})
}

// record is a board's device.json.
func (s *site) record(serial string) (r record.Record) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.state, "devices", serial, "device.json"))
	must(s.t, err)
	must(s.t, json.Unmarshal(b, &r))
	return r
}

// root is where slot n of a board is mounted.
func (s *site) root(serial string, n int) string {
	return filepath.Join(s.state, "roots", serial, fmt.Sprint(n))
}

// output is what a run of the command said.
type output struct {
	stdout, stderr string
	code           int
}

// rubus runs the command on the site's host.
func (s *site) rubus(args ...string) output {
	s.t.Helper()
	return s.command(s.host.command(s.t.Context(), shared.rubus, args...))
}

func (s *site) command(cmd *exec.Cmd) output {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env(), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that ends with exit code 0 and returns what it printed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out := s.rubus(args...)
	if out.code != 0 {
		s.t.Fatalf("rubus %s: exit code %d\n%s", strings.Join(args, " "), out.code, out.stderr)
	}
	return out.stdout
}

// refuses runs a command that ends with an exit code and says words on its
// standard error, behind "rubus: error: ".
func (s *site) refuses(code int, words []string, args ...string) {
	s.t.Helper()
	out := s.rubus(args...)
	if out.code != code {
		s.t.Errorf("rubus %s: exit code %d, not %d\n%s%s", strings.Join(args, " "), out.code, code, out.stdout, out.stderr)
		return
	}
	for _, w := range append([]string{"rubus: error: "}, words...) {
		if !strings.Contains(out.stderr, w) {
			s.t.Errorf("rubus %s does not say %q:\n%s", strings.Join(args, " "), w, out.stderr)
		}
	}
}

func parseSerial(t testing.TB, s string) device.Serial {
	t.Helper()
	serial, err := device.ParseSerial(s)
	must(t, err)
	return serial
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

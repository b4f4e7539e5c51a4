package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot/record"
	"rubus/cmd/internal/control"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/config/device"
)

// env is how the site's files are named to the command.
func (s *site) env() []string {
	return append(os.Environ(), "RUBUS_STATE="+s.state, "RUBUS_RUN="+filepath.Join(s.dir, "run"),
		"RUBUS_CONFIG="+filepath.Join(s.dir, "rubus.yaml"), "RUBUS_DEVICES="+filepath.Join(s.dir, "devices.yaml"))
}

// serve starts the daemon and waits until it serves.
func (s *site) serve() *harness.Daemon { return s.serveWith(shared.Rubus) }

func (s *site) serveWith(binary string) *harness.Daemon {
	s.t.Helper()
	d := harness.NewDaemon(s.t, harness.Log(filepath.Join(s.dir, "rubus.log")), func() *exec.Cmd {
		cmd := s.host.command(context.Background(), binary, "serve")
		cmd.Env = s.env()
		return cmd
	})
	d.Start()
	return d
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
	harness.Until(s.t, limit, fmt.Sprintf("board %s is %s", serial, phase), func() error {
		if b := s.board(serial); b.Phase != phase {
			return fmt.Errorf("phase %q, up %q, problem %q, refusal %q", b.Phase, b.Up, b.Problem, b.Refusal)
		}
		return nil
	})
}

// record is a board's device.json.
func (s *site) record(serial string) record.Record {
	s.t.Helper()
	r, err := harness.Record(s.state, parseSerial(s.t, serial))
	must(s.t, err)
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
	return s.command(s.host.command(s.t.Context(), shared.Rubus, args...))
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

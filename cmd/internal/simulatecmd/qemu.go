package simulatecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/emulator"
	"rubus/boot/fakepi/nic"
	"rubus/cmd/internal/ui"
)

// maxOutput bounds what --json holds of a command's output.
const maxOutput = 1 << 20

// powerOffWait bounds the wait for a guest that was asked to power down: systemd itself gives one
// unit 90 seconds to stop, and an emulated board on a loaded machine is slow besides.
const powerOffWait = 5 * time.Minute

// emulate boots what was fetched and does what the flags want done with it. It says whether
// the guest has rebooted. What happens by itself ends with timed.
func (s *simulation) emulate(ctx, timed context.Context, res *fakepi.Result, tap *nic.Tap) (again bool, err error) {
	// Linux begins where the firmware ended.
	begun := time.Since(s.report.started)
	m, err := emulator.Start(res, emulator.Options{
		NIC: tap.File(), ConsoleLog: s.console,
		Observe: func(e fakepi.Event) {
			e.At += begun
			s.report.event(e)
		},
	})
	if err != nil {
		return false, err
	}
	defer m.Close()
	// The emulator has the card now: nobody else may read from it.
	if err := tap.Close(); err != nil {
		return false, fmt.Errorf("handing the network card over: %w", err)
	}
	s.report.additions(m.Additions())
	s.report.Emulator.Boots++
	if s.f.interactive {
		return false, s.terminal(ctx, m)
	}
	if err := m.WaitLogin(timed); err != nil {
		return false, explain(err)
	}
	s.report.Emulator.Login = true
	commands := s.f.exec
	if s.report.Emulator.Boots > 1 && !s.f.reboot {
		commands = nil
	}
	for _, command := range commands {
		if err := s.exec(timed, m, command); err != nil {
			return false, errors.Join(err, s.powerOff(ctx, m))
		}
	}
	switch {
	case s.f.reboot && s.report.Emulator.Boots == 1:
		s.report.note("the board is asked to reboot")
		return true, m.Reboot(timed)
	case s.f.keep:
		return s.wait(ctx, m)
	}
	return false, s.powerOff(ctx, m)
}

// explain gives an error of the emulator the last lines of the console as hint.
func explain(err error) error {
	ce, ok := errors.AsType[*emulator.ConsoleError](err)
	if !ok {
		return err
	}
	hints := []string{"the console's last lines:\n" + ce.Console}
	if ce.Emulator != "" {
		hints = append(hints, "the emulator said: "+ce.Emulator)
	}
	return ui.Hint(err, hints...)
}

// exec runs one command in the guest.
func (s *simulation) exec(ctx context.Context, m *emulator.Machine, command string) error {
	var held limited
	out := io.Writer(&held)
	if !s.g.JSON {
		s.report.note("$ %s", command)
		out = s.g.Stdout
	}
	status, err := m.Exec(ctx, command, out)
	s.report.Emulator.Exec = append(s.report.Emulator.Exec, execReport{command, status, held.String()})
	if err != nil {
		return explain(err)
	}
	if status != 0 {
		return fmt.Errorf("%q ended with exit status %d in the guest", command, status)
	}
	return nil
}

// limited keeps the first maxOutput bytes written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	l.Buffer.Write(b[:min(len(b), maxOutput-l.Len())])
	return len(b), nil
}

// wait keeps the board until it powers off or reboots, or until Ctrl-C: then it is asked
// to power down.
func (s *simulation) wait(ctx context.Context, m *emulator.Machine) (again bool, err error) {
	s.report.note("the board runs; Ctrl-C ends it")
	select {
	case <-m.Done():
		return m.Rebooted(), nil
	case <-ctx.Done():
		return false, s.powerOff(context.WithoutCancel(ctx), m)
	}
}

// terminal joins the console to the terminal.
func (s *simulation) terminal(ctx context.Context, m *emulator.Machine) error {
	in, ok := s.g.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return ui.Usagef("--interactive needs a terminal")
	}
	s.report.note("this is the board's console; log in as root; Ctrl-] leaves it and ends the board")
	s.report.quiet(true)
	defer s.report.quiet(false)
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("setting the terminal up: %w", err)
	}
	defer func() { _ = term.Restore(int(in.Fd()), old) }()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	s.report.Emulator.Attached = true
	return m.Attach(ctx, &escape{in, leave}, s.g.Stdout)
}

// escape ends the input at Ctrl-].
type escape struct {
	in    io.Reader
	leave func()
}

func (e *escape) Read(b []byte) (int, error) {
	const ctrlBracket = 0x1d
	n, err := e.in.Read(b)
	if i := bytes.IndexByte(b[:n], ctrlBracket); i >= 0 {
		e.leave()
		return i, io.EOF
	}
	return n, err
}

// powerOff ends the board cleanly when its root is worth it: what it wrote on a
// running server stays, what it wrote in a network of its own does not.
func (s *simulation) powerOff(ctx context.Context, m *emulator.Machine) error {
	if s.f.standalone {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, powerOffWait, errors.New("it did not power down"))
	defer cancel()
	s.report.note("the board is asked to power down")
	err := m.PowerOff(ctx)
	if errors.Is(err, emulator.ErrPassword) {
		s.report.note("the board is switched off hard: %v", err)
		return nil
	}
	return err
}

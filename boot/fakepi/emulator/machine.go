package emulator

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/child"
)

// Program is QEMU, of Debian's package qemu-system-arm.
const Program = "qemu-system-aarch64"

// Options are what a Machine needs beside a Result.
type Options struct {
	// NIC is the tap device that firmware used. The machine inherits it; the
	// caller closes its own.
	NIC *os.File
	// ConsoleLog, when not nil, gets all that the board prints.
	ConsoleLog io.Writer
	// Observe, when not nil, is told what is seen on the console.
	Observe func(fakepi.Event)
}

// Errors that end a machine's life.
var (
	// ErrPanic says that the guest's kernel panicked.
	ErrPanic = errors.New("the guest's kernel panicked")
	// ErrStopped says that the emulator ended before it was asked to.
	ErrStopped = errors.New("the emulator ended")
)

// Machine is an emulated board that runs.
type Machine struct {
	process *child.Process
	con     *console
	ending  *ending
	shell   *shell
	added   []Addition
	errors  bytes.Buffer // what QEMU says; read it once the process is gone
	started time.Time
	observe func(fakepi.Event)

	mu     sync.Mutex
	seen   map[string]bool
	cancel context.CancelCauseFunc
	life   context.Context
}

// Start starts the machine. Close must be called.
func Start(res *fakepi.Result, opt Options) (*Machine, error) {
	f, err := prepare(res, rand.Reader)
	if err != nil {
		return nil, err
	}
	qemu, err := exec.LookPath(Program)
	if err != nil {
		return nil, fmt.Errorf("finding the emulator (Debian package qemu-system-arm): %w", err)
	}
	m := &Machine{added: f.additions, started: time.Now(), observe: opt.Observe, seen: map[string]bool{}}
	m.life, m.cancel = context.WithCancelCause(context.Background())
	if err := m.start(qemu, f, res.Board.MAC.String(), opt); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Machine) start(qemu string, f files, mac string, opt Options) (err error) {
	ours, theirs, err := socketPair("console")
	if err != nil {
		return err
	}
	monitor, itsMonitor, err := socketPair("monitor")
	if err != nil {
		ours.Close()
		theirs.Close()
		return err
	}
	// In the order of the constants; see nicFD. Nothing of it is on a disk, so
	// nothing is left there however this process ends.
	inherit := []*os.File{opt.NIC, theirs, itsMonitor}
	defer func() {
		for _, f := range inherit[1:] {
			f.Close()
		}
		if err != nil {
			ours.Close()
			monitor.Close()
		}
	}()
	for _, data := range [][]byte{f.kernel, f.dtb, f.initramfs} {
		file, err := memory(data)
		if err != nil {
			return err
		}
		inherit = append(inherit, file)
	}
	cmd := exec.Command(qemu, arguments(f, mac)...)
	cmd.ExtraFiles = inherit
	cmd.Stdout, cmd.Stderr = &m.errors, &m.errors
	// Ctrl-C is for this process: the board may still be asked to power down.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if m.process, err = child.Start(cmd); err != nil {
		return err
	}
	m.ending = listen(monitor)
	m.con = newConsole(ours, opt.ConsoleLog, m.line)
	go func() {
		<-m.process.Done()
		// What it said last is still to be read, and nobody else may say more.
		for _, c := range []*net.UnixConn{ours, monitor} {
			_ = c.CloseRead()
		}
		<-m.con.ended
		<-m.ending.known
		ours.Close()
		monitor.Close()
		m.cancel(ErrStopped)
	}()
	return nil
}

// memory is a file in memory.
func memory(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("rubus-simulate", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memory")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("writing a file in memory: %w", err)
	}
	return f, nil
}

// socketPair is a socket pair: one end for this process, one to inherit.
func socketPair(name string) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making the %s's sockets: %w", name, err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("making the %s's sockets: %w", name, err)
	}
	return conn.(*net.UnixConn), theirs, nil // that is what AF_UNIX gives
}

// Additions are what the emulator added to what was fetched.
func (m *Machine) Additions() []Addition { return m.added }

// milestones are the lines of the console that mark how far a boot has come.
var milestones = []struct {
	text    string
	pattern *regexp.Regexp
}{
	{"kernel starts", regexp.MustCompile(`Booting Linux on physical CPU`)},
	{"initramfs starts", regexp.MustCompile(`Run /init as init process|Loading, please wait`)},
	{"network card found", regexp.MustCompile(`eth0: register '(rndis_host|cdc_ether)'`)},
	{"address from DHCP", regexp.MustCompile(`IP-Config: .* complete|IP-Config: Got DHCP answer`)},
	{"root is mounted, systemd starts", regexp.MustCompile(`systemd\[1\]: systemd \S+ running in system mode|systemd\[1\]: Inserted module`)},
	{"multi-user system reached", regexp.MustCompile(`Reached target.*multi-user\.target`)},
	{"powers down", regexp.MustCompile(`reboot: (Power down|System halted|Restarting system)`)},
}

var panicLine = regexp.MustCompile(`Kernel panic - not syncing: (.*)`)

// line looks at one line of the console.
func (m *Machine) line(l string) {
	if p := panicLine.FindStringSubmatch(l); p != nil {
		m.cancel(fmt.Errorf("%w: %s", ErrPanic, printable(p[1])))
	}
	for _, s := range milestones {
		if s.pattern.MatchString(l) {
			m.event(s.text)
		}
	}
}

// event reports a milestone the first time it is reached.
func (m *Machine) event(text string) {
	m.mu.Lock()
	again := m.seen[text]
	m.seen[text] = true
	m.mu.Unlock()
	if again || m.observe == nil {
		return
	}
	m.observe(fakepi.Event{At: time.Since(m.started), Stage: "linux", Kind: fakepi.KindEmulator, Text: text})
}

// WaitLogin waits until the board asks for a user. It fails at once when the
// kernel panics or the emulator ends; the error then has the last lines.
func (m *Machine) WaitLogin(ctx context.Context) error {
	err := m.alive(ctx, func(ctx context.Context) error {
		_, err := m.con.waitFor(ctx, loginPrompt)
		return err
	})
	if err != nil {
		return fmt.Errorf("waiting for a login prompt: %w", err)
	}
	m.event("login prompt")
	return nil
}

// Exec runs a command as root in the guest, whose output goes to out, and
// returns its exit status. It logs in first when nobody has; call WaitLogin
// before.
func (m *Machine) Exec(ctx context.Context, command string, out io.Writer) (status int, err error) {
	err = m.alive(ctx, func(ctx context.Context) error {
		if m.shell == nil {
			if m.shell, err = login(ctx, m.con); err != nil {
				return err
			}
			m.event("logged in")
		}
		status, err = m.shell.run(ctx, command, out)
		return err
	})
	return status, err
}

// PowerOff asks the guest to power down and waits until the emulator is gone.
// It logs in first when nobody has; call WaitLogin before.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.end(ctx, "poweroff"); err != nil {
		return fmt.Errorf("powering the guest down: %w", err)
	}
	return nil
}

// Reboot asks the guest to reboot and waits until the emulator is gone: what a board
// does then, its firmware does, and Start plays no firmware. It logs in first when
// nobody has; call WaitLogin before.
func (m *Machine) Reboot(ctx context.Context) error {
	err := m.end(ctx, "reboot")
	if err == nil && !m.Rebooted() {
		err = errors.New("it ended without a reset")
	}
	if err != nil {
		return fmt.Errorf("rebooting the guest: %w", err)
	}
	return nil
}

func (m *Machine) end(ctx context.Context, verb string) error {
	if m.shell == nil {
		if _, err := m.Exec(ctx, "true", io.Discard); err != nil {
			return err
		}
	}
	if err := m.con.send("systemctl " + verb + "\r"); err != nil {
		return err
	}
	select {
	case <-m.process.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Rebooted waits until the emulator has ended and says whether the guest had reset the
// board, rather than switched it off.
func (m *Machine) Rebooted() bool {
	<-m.process.Done()
	<-m.ending.known
	return m.ending.reset
}

// Attach joins the console to a terminal until ctx is done or the board is off.
// What is read from in is typed.
func (m *Machine) Attach(ctx context.Context, in io.Reader, out io.Writer) error {
	m.con.setTee(out)
	defer m.con.setTee(nil)
	go func() { _, _ = io.Copy(m.con.line, in) }()
	select {
	case <-m.process.Done():
	case <-ctx.Done():
	}
	return nil
}

// alive runs f with a context that ends with the machine's life.
func (m *Machine) alive(ctx context.Context, f func(context.Context) error) error {
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(m.life, func() { cancel(context.Cause(m.life)) })
	defer stop()
	err := f(both)
	if err == nil {
		return nil
	}
	if cause := context.Cause(m.life); cause != nil && ctx.Err() == nil {
		err = cause
	} else if errors.Is(err, errConsole) {
		<-m.process.Done()
		err = ErrStopped
	}
	return &ConsoleError{Err: err, Console: m.con.lastLines(12), Emulator: m.said()}
}

// said is what QEMU printed, once it is gone.
func (m *Machine) said() string {
	select {
	case <-m.process.Done():
		return printable(m.errors.String())
	default:
		return ""
	}
}

// ConsoleError is an error with the last lines that the board and the emulator printed.
type ConsoleError struct {
	Err               error
	Console, Emulator string
}

// Error implements error; it is the cause alone.
func (e *ConsoleError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *ConsoleError) Unwrap() error { return e.Err }

// Done is closed when the emulator has ended.
func (m *Machine) Done() <-chan struct{} { return m.process.Done() }

// Close ends the emulator. It returns when it is gone.
func (m *Machine) Close() {
	m.process.Stop(5 * time.Second)
	m.cancel(ErrStopped)
}

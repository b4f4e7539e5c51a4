package simulatecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/child"
	"rubus/boot/fakepi/nic"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/simnet"
	"rubus/cmd/internal/ui"
)

// The network of --standalone: the server is .1, the address server .254.
const (
	standaloneBridge = "rubus0"
	standaloneServer = "10.77.0.1/24"
	standaloneRouter = "10.77.0.254/24"
	standaloneFirst  = "10.77.0.100"
	standaloneLast   = "10.77.0.199"
	// standaloneAddresses is how many boards that is.
	standaloneAddresses = 100
)

// serveWait bounds the start of the server.
const serveWait = time.Minute

// standalone is a network and a server for one boot, in namespaces of this
// process' own.
type standalone struct {
	bridge string
	// ctx ends when the server or the address server does.
	ctx    context.Context
	cancel context.CancelCauseFunc

	dir    string // the work directory: state, and more
	server *child.Process
	notify *net.UnixConn // where the server says that it is ready, and that it ends
	router nic.Link
	done   chan struct{} // the address server is gone
	log    *tailLog
}

// enterStandalone runs this command again in namespaces of its own. The work
// directory lies in the state directory, because a root's own files have to be
// on the file system of its layers. It is removed from out here, where nothing
// was ever mounted in it.
func enterStandalone(g *cli.Globals) (err error) {
	state, err := g.StateDir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(state, "images")); err != nil {
		return ui.Hint(fmt.Errorf("there are no images: %w", err), "import one: rubus image import NAME SOURCE; or name another --state")
	}
	work, err := simnet.MakeWorkDir(state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.Remove()) }()
	code, err := simnet.Enter(os.Args[1:], work, simnet.Streams{In: g.Stdin, Out: g.Stdout, Err: g.Stderr})
	if err != nil || code == 0 {
		return err
	}
	// The copy of this program has said what there is to say.
	return &ui.Error{Err: ui.ErrSilent, Code: max(code, ui.ExitError)}
}

// startStandalone makes the network and returns when the server is ready.
func startStandalone(ctx context.Context, g *cli.Globals, f simulateFlags, boards []fakepi.Board) (_ *standalone, err error) {
	a := &standalone{
		bridge: standaloneBridge, dir: simnet.WorkDirInside(os.Getenv),
		done: make(chan struct{}), log: &tailLog{},
	}
	if err := simnet.IsolateMounts(); err != nil {
		return nil, err
	}
	if err := simnet.MakeBridge(a.bridge, standaloneServer); err != nil {
		return nil, err
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			a.stop()
		}
	}()
	if err := a.startRouter(); err != nil {
		return nil, err
	}
	args, err := a.prepareState(g, f, boards)
	if err != nil {
		return nil, err
	}
	file, err := openLog(f.serverLog)
	if err != nil {
		return nil, err
	}
	a.log.file = file
	if err := a.startServer(args); err != nil {
		return nil, ui.Hint(err, "the server's last lines:\n"+a.tail())
	}
	return a, nil
}

func (a *standalone) startRouter() error {
	link, err := nic.OpenTap(a.bridge)
	if err != nil {
		return err
	}
	a.router = link
	r := &simnet.Router{
		Link: link, Addr: netip.MustParsePrefix(standaloneRouter),
		First: netip.MustParseAddr(standaloneFirst), Last: netip.MustParseAddr(standaloneLast), Lease: time.Hour,
	}
	go func() {
		defer close(a.done)
		if err := r.Run(a.ctx); err != nil {
			a.cancel(err)
		}
	}()
	return nil
}

// prepareState makes a state directory that has the images of the real one and
// nothing else of it, and returns the server's flags.
func (a *standalone) prepareState(g *cli.Globals, f simulateFlags, boards []fakepi.Board) ([]string, error) {
	state, err := g.StateDir()
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"state", "state/images", "run"} {
		if err := os.Mkdir(filepath.Join(a.dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("making a state directory: %w", err)
		}
	}
	if err := simnet.BindMount(filepath.Join(state, "images"), filepath.Join(a.dir, "state/images")); err != nil {
		return nil, err
	}
	devices := g.DevicesFile
	if f.image != "" {
		devices = filepath.Join(a.dir, "devices.yaml")
		text := "version: 1\ndevices:\n"
		for _, b := range boards {
			text += fmt.Sprintf("  - serial: %q\n    mac: %q\n    image: %q\n", b.Serial, b.MAC, f.image)
		}
		if err := os.WriteFile(devices, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("writing devices.yaml: %w", err)
		}
	}
	return []string{
		"serve", "--state", filepath.Join(a.dir, "state"), "--run", filepath.Join(a.dir, "run"),
		"--config", filepath.Join(a.dir, "rubus.yaml"), "--devices", devices,
	}, nil
}

// startServer starts "rubus serve" and waits until it says that it is ready.
func (a *standalone) startServer(args []string) error {
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(a.dir, "notify"), Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("listening for the server: %w", err)
	}
	a.notify = ready
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(a.dir, "notify"))
	cmd.Stdout, cmd.Stderr = a.log, a.log
	// Ctrl-C ends the boot first, and only then its server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.server, err = child.Start(cmd); err != nil {
		return err
	}
	go func() {
		<-a.server.Done()
		a.cancel(errServerEnded)
	}()
	if err := ready.SetReadDeadline(time.Now().Add(serveWait)); err != nil {
		return fmt.Errorf("listening for the server: %w", err)
	}
	stop := context.AfterFunc(a.ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) }) // wakes Read
	defer stop()
	for buf := make([]byte, 4096); ; {
		n, err := ready.Read(buf)
		if cause := context.Cause(a.ctx); cause != nil {
			return cause
		}
		if err != nil {
			return fmt.Errorf("waiting for the server to be ready: %w", err)
		}
		if bytes.Contains(buf[:n], []byte("READY=1")) {
			return nil
		}
	}
}

var errServerEnded = errors.New("\"rubus serve\" ended by itself")

// cpu is what the server has used, system calls included; 0: it cannot be told.
func (a *standalone) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.server.Pid()))
	if err != nil {
		return 0
	}
	// proc(5): behind the name, in parentheses, the 12th and 13th fields are
	// utime and stime, in ticks of 10 ms.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, err := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	if errors.Join(err, err2) != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// tail is the end of the server's log.
func (a *standalone) tail() string { return a.log.tail() }

// stop ends the server and removes its state. The mounts go with this process:
// they are in a namespace that nobody else has.
func (a *standalone) stop() {
	a.cancel(context.Canceled)
	if a.server != nil {
		a.server.Stop(10 * time.Second)
	}
	if a.notify != nil {
		a.notify.Close() // not before: the server says there that it ends
	}
	if a.router != nil {
		<-a.done
		a.router.Close()
	}
	a.log.close()
}

// tailLog keeps the end of a log and passes all of it on to a file.
type tailLog struct {
	mu   sync.Mutex
	file io.WriteCloser
	held []byte
}

func (l *tailLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 4096
	l.held = append(l.held, b...)
	l.held = l.held[max(0, len(l.held)-most):]
	if l.file == nil {
		return len(b), nil
	}
	return l.file.Write(b)
}

// tail is the last lines that were written.
func (l *tailLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(l.held)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

func (l *tailLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
}

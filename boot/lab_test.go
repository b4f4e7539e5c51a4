package boot_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/boot/sighting"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/importer"
	"rubus/nfsexport"
)

// These tests mount real overlays: run them as root in a mount namespace of
// their own (go test -exec scripts/in-ns).

var (
	serialA = mustSerial("b8123456")
	serialB = mustSerial("5b154510")
	macA    = serialA.PiMAC()
	macB    = device.MAC{0xdc, 0xa6, 0x32, 0, 0, 2}
	evil    = device.MAC{2, 0, 0, 0, 0, 66}
	addrA   = netip.MustParseAddr("10.77.0.50")
	addrB   = netip.MustParseAddr("10.77.0.51")
	server  = netip.MustParseAddr("10.77.0.1")
)

func mustSerial(s string) device.Serial {
	v, err := device.ParseSerial(s)
	if err != nil {
		panic(err)
	}
	return v
}

// link is a neighbour table that the test writes.
type link struct {
	mu     sync.Mutex
	owners map[netip.Addr]device.MAC
	off    map[netip.Addr]bool
	silent map[device.MAC]bool
	broken bool
	asked  chan struct{}
	// beforeOwner, if set, is called at each Owner, and may block.
	beforeOwner func(context.Context)
}

func (l *link) OnLink(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.off[a]
}

func (l *link) Owner(ctx context.Context, a netip.Addr) (device.MAC, bool) {
	l.mu.Lock()
	before := l.beforeOwner
	l.mu.Unlock()
	if before != nil {
		before(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m, ok := l.owners[a]
	return m, ok
}

func (l *link) Silent(_ context.Context, _ netip.Addr, m device.MAC) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		select {
		case l.asked <- struct{}{}:
		default:
		}
	}()
	if l.broken {
		return false, errors.New("no carrier")
	}
	return l.silent[m], nil
}

func (l *link) Addresses(m device.MAC) (out []netip.Addr, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, owner := range l.owners {
		if owner == m {
			out = append(out, a)
		}
	}
	return out, nil
}

func (l *link) set(f func(*link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
}

// exporter keeps what is published.
type exporter struct {
	mu  sync.Mutex
	now map[nfsexport.ID]nfsexport.Export
	// failReady is how many publications as Ready fail.
	failReady int
	doubt     bool
	traits    nfsexport.Traits
	// held and released count holds.
	held, released int
}

func (e *exporter) Doubt(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doubt = on
}

func (e *exporter) Traits() nfsexport.Traits { return e.traits }

func (e *exporter) inDoubt() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.doubt
}

func (e *exporter) Publish(x nfsexport.Export) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x.State == nfsexport.Ready && e.failReady > 0 {
		e.failReady--
		return errors.New("too many open files")
	}
	e.now[x.ID] = x
	return nil
}

func (e *exporter) Withdraw(id nfsexport.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.now, id)
	return nil
}

func (e *exporter) Hold(context.Context, nfsexport.ID) (func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held++
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.released++
	}, nil
}

func (e *exporter) get(id nfsexport.ID) (nfsexport.Export, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, ok := e.now[id]
	return x, ok
}

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type lab struct {
	*testing.T
	fleet *boot.Fleet
	opt   boot.Options
	store *images.Store
	link  *link
	exp   *exporter
	clock *clock
	want  *boot.Desired
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return newLabIn(t, t.TempDir())
}

// newLabIn is newLab with a state directory of the test's choice.
func newLabIn(t *testing.T, state string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts overlays: run it as root, by scripts/test")
	}
	l := &lab{
		T:     t,
		link:  &link{owners: map[netip.Addr]device.MAC{addrA: macA, addrB: macB}, off: map[netip.Addr]bool{}, silent: map[device.MAC]bool{}, asked: make(chan struct{}, 1)},
		clock: &clock{t: time.Now()},
	}
	var err error
	if l.store, err = images.Open(filepath.Join(state, "images")); err != nil {
		t.Fatal(err)
	}
	l.importImage("one")
	l.opt = boot.Options{State: state, Store: l.store, Neighbours: l.link, Now: l.clock.now}
	l.want = &boot.Desired{
		Devices: map[device.Serial]*boot.Device{
			serialA: {Serial: serialA, Image: imageref.Ref{Name: "lab"}, Enabled: true, Cmdline: []string{"quiet"}, Config: []string{"dtparam=audio=off"}},
			serialB: {Serial: serialB, Image: imageref.Ref{Name: "lab"}, Enabled: true, Ephemeral: true},
		},
		ByMAC: map[device.MAC]device.Serial{macA: serialA}, Unknown: boot.UnknownList,
	}
	l.restart()
	return l
}

// restart makes a new Fleet on the same state, as a new process would.
func (l *lab) restart() {
	l.Helper()
	l.restartWith(&exporter{now: map[nfsexport.ID]nfsexport.Export{}})
}

func (l *lab) restartWith(e *exporter) {
	l.Helper()
	l.start(e, e)
}

// start is restartWith where the exporter does more than to keep what is published.
func (l *lab) start(e *exporter, as boot.Exporter) {
	l.Helper()
	l.exp, l.opt.Exporter = e, as
	l.fleet = boot.New(l.opt)
	l.fleet.Apply(l.want)
	if err := l.fleet.Start(l.Context()); err != nil {
		l.Fatal(err)
	}
	f := l.fleet
	l.Cleanup(func() {
		for _, s := range []device.Serial{serialA, serialB} {
			_ = f.Stop(context.Background(), s)
		}
	})
}

// killedAfter has a daemon do something that dies after so many steps of it, and another one go
// on. It gives the step that was not done any more; "": the daemon did not die.
func (l *lab) killedAfter(kill int, do func() error) (last string) {
	l.Helper()
	n := 0
	l.opt.Step = func(step string) {
		if n++; n > kill {
			last = step
			runtime.Goexit() // dead: nothing more is done to the disk
		}
	}
	l.restart()
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- do()
	}()
	if err := <-done; err != nil {
		l.Fatalf("ended after %d steps: %v", n, err)
	}
	l.opt.Step = nil
	l.restart()
	must(l.T, l.fleet.Sweep(l.Context()))
	return last
}

// unmount takes a root's mount away, as a reboot of the server does.
func (l *lab) unmount(x nfsexport.Export) {
	l.Helper()
	if err := unix.Unmount(x.Dir, 0); err != nil {
		l.Fatal(err)
	}
}

// importImage makes the next version of "lab", told apart by a file's text, with more
// files, each a name and a text; an empty text leaves a file out.
func (l *lab) importImage(text string, more ...string) {
	l.Helper()
	dir := l.TempDir()
	files := map[string]string{
		"sbin/init": "#!init", "etc/golden": text, "etc/ssh/sshd_config": "", "boot/firmware/config.txt": "arm_64bit=1\n",
		"boot/firmware/cmdline.txt": "console=ttyS1 root=PARTUUID=1-02 rootwait\n", "boot/firmware/bootcode.bin": "boot", "boot/firmware/kernel8.img": "kernel " + text, "boot/firmware/start.elf": "elf " + text,
	}
	for i := 0; i < len(more); i += 2 {
		files[more[i]] = more[i+1]
		if more[i+1] == "" {
			delete(files, more[i])
		}
	}
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(data), 0o755)); err != nil {
			l.Fatal(err)
		}
	}
	if _, _, err := importer.Import(l.Context(), l.store, "lab", dir, importer.Options{}); err != nil {
		l.Fatal(err)
	}
}

// file fetches a file as the board does.
func (l *lab) file(path string, client netip.Addr) (string, error) {
	f, err := l.fleet.Open(l.Context(), boot.FileRequest{Path: path, Client: client, Server: server})
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

// boots walks a board from DISCOVER to MOUNT and gives its root on this host.
func (l *lab) boots(s device.Serial, mac device.MAC, addr netip.Addr) nfsexport.Export {
	l.Helper()
	l.clock.add(time.Minute)
	if v := l.fleet.Sight(sighting.Sighting{Serial: s, MAC: mac, Stage: "eeprom"}); !v.Answer {
		l.Fatalf("no answer to %s: %s", s, v.Why)
	}
	if _, err := l.file(s.String()+"/start.elf", addr); err != nil {
		l.Fatal(err)
	}
	st, _ := l.fleet.Board(s)
	return l.mounts(st.Path, addr)
}

func (l *lab) mounts(path string, addr netip.Addr) nfsexport.Export {
	l.Helper()
	l.clock.add(time.Second)
	id, err := l.fleet.Mount(l.Context(), path, netip.AddrPortFrom(addr, 700))
	if err != nil {
		l.Fatal(err)
	}
	x, ok := l.exp.get(id)
	if !ok || x.State != nfsexport.Ready || x.Client != addr || x.Init == 0 {
		l.Fatalf("mounted %s, but it is published as %+v (%v)", path, x, ok)
	}
	return x
}

func (l *lab) golden(x nfsexport.Export) string {
	l.Helper()
	b, err := os.ReadFile(filepath.Join(x.Dir, "etc/golden"))
	if err != nil {
		l.Fatal(err)
	}
	return string(b)
}

func (l *lab) write(x nfsexport.Export, name string) {
	l.Helper()
	if err := os.WriteFile(filepath.Join(x.Dir, name), []byte("mine"), 0o644); err != nil {
		l.Fatal(err)
	}
}

func has(x nfsexport.Export, name string) bool {
	_, err := os.Stat(filepath.Join(x.Dir, name))
	return err == nil
}

// published waits until an export is for an address: it is changed in the
// background.
func (l *lab) published(id nfsexport.ID, addr netip.Addr) {
	l.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		now, _ := l.exp.get(id)
		if now.Client == addr {
			return
		}
		if time.Now().After(deadline) {
			l.Fatalf("published for %s, not for %s", now.Client, addr)
		}
		time.Sleep(time.Millisecond)
	}
}

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/record"
	"rubus/cmd/rubus/e2e/harness"
	"rubus/nfsexport/xdr"
)

// TestHostileBoard: the root user of board A tries what he can while B runs.
func TestHostileBoard(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.golden()
	l.devices("defaults: {image: lab}\ndevices:\n  - {serial: b8123456, name: a}\n  - {serial: b8223344, name: b}\n")
	d := l.serve()
	h := &hostile{t: t, l: l}
	h.a, h.b = l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101), l.board("4b", "b8223344", "dc:a6:32:22:33:44", 102)

	// B's handles are what B itself is told before its kernel starts.
	server, path := h.b.powerOn()
	h.bPath = path
	s := l.station(h.b.mac.String(), 102)
	st, root := s.mount(path)
	if st != 0 {
		t.Fatalf("B's own MOUNT: status %d", st)
	}
	h.bRoot, h.bFile = root, s.walk(root, "srv/data/keep")
	s.close()
	m := l.machine("b", h.b.mac, 102)
	m.mount(server, path)
	m.hold()
	w := m.startWriter("home")

	_, h.aPath = h.a.powerOn()
	h.s = l.station(h.a.mac.String(), 101)
	if st, h.aRoot = h.s.mount(h.aPath); st != 0 {
		t.Fatalf("A's own MOUNT: status %d", st)
	}
	for _, attack := range []struct {
		name string
		run  func()
	}{
		{"what is B's", h.othersThings},
		{"handles", h.handles},
		{"ports", h.ports},
		{"TFTP paths", h.paths},
		{"planted", h.planted},
		{"random bytes", h.noise},
	} {
		attack.run()
		d.Alive()
		if t.Failed() {
			t.Fatalf("after %q", attack.name)
		}
	}
	w.goesOn(time.Minute)
	m.holds()
	m.want("cat /mnt/root/srv/data/keep", "as it was")
	w.end()
	if st, r := h.s.nfs(procGetAttr, h.aRoot, nil); st != 0 || !r.OK() {
		t.Errorf("A's own root after all: status %d", st)
	}
	h.s.close()
	h.a.powerOn()
	for _, bad := range []string{"panic", "DATA RACE", "goroutine "} {
		if err := d.Said(0, bad); err == nil {
			t.Errorf("the daemon's log has %q", bad)
		}
	}
}

// hostile is board A, with what it knows of B.
type hostile struct {
	t            *testing.T
	l            *lab
	a, b         *board
	s            *station
	aPath, bPath string
	aRoot        []byte
	bRoot, bFile []byte
}

// othersThings asks for B's files, its export, and through its handles.
func (h *hostile) othersThings() {
	d := h.l.daemon
	for range 5 {
		h.noFile(h.b.serial.String() + "/config.txt")
	}
	if n := strings.Count(d.Text(0), "a file is refused"); n != 1 {
		h.t.Errorf("the same refusal stands %d times in the log", n)
	}
	for _, path := range []string{h.bPath, "/" + h.b.serial.String()} {
		if st, _ := h.s.mount(path); st != mntAcces {
			h.t.Errorf("MOUNT of B's %s: status %d", path, st)
		}
	}
	if err := d.Said(0, "a MOUNT is refused", h.b.serial.String()); err != nil {
		h.t.Error(err)
	}
	for name, handle := range map[string][]byte{"root": h.bRoot, "file": h.bFile} {
		for proc, args := range map[uint32]func(*xdr.Writer){
			procGetAttr: nil,
			procLookup:  func(w *xdr.Writer) { w.String("etc") },
			procRead:    func(w *xdr.Writer) { w.Uint64(0); w.Uint32(100) },
			procWrite: func(w *xdr.Writer) {
				w.Uint64(0)
				w.Uint32(4)
				w.Uint32(2)
				w.Opaque([]byte("evil"))
			},
			procSet: func(w *xdr.Writer) {
				w.Bool(true)
				w.Uint32(0o777)
				for range 6 {
					w.Uint32(0)
				}
			},
		} {
			if st, r := h.s.nfs(proc, handle, args); st == 0 {
				h.t.Errorf("procedure %d with the handle of B's %s is served: %x", proc, name, r.Rest())
			}
		}
	}
	if err := d.Said(0, "the caller is not the board", h.b.serial.String()); err != nil {
		h.t.Error(err)
	}
}

// handles flips each bit of A's own handle, and tries other lengths.
func (h *hostile) handles() {
	for bit := range len(h.aRoot) * 8 {
		bad := append([]byte(nil), h.aRoot...)
		bad[bit/8] ^= 1 << (bit % 8)
		if st, _ := h.s.nfs(procGetAttr, bad, nil); st == 0 {
			h.t.Errorf("the handle is good with bit %d flipped", bit)
		}
	}
	for n := range 65 {
		bad := make([]byte, n)
		copy(bad, h.aRoot)
		if n == len(h.aRoot) {
			continue
		}
		if st, _ := h.s.nfs(procGetAttr, bad, nil); st == 0 {
			h.t.Errorf("the handle is good with %d bytes", n)
		}
	}
	// A's export with B's object.
	if st, _ := h.s.nfs(procGetAttr, append(append([]byte(nil), h.aRoot[:len(h.aRoot)/2]...), h.bFile[len(h.bFile)/2:]...), nil); st == 0 {
		h.t.Error("a handle of two halves is good")
	}
}

// ports calls as any user of A could: from ports of 1024 and above.
func (h *hostile) ports() {
	for name, c := range map[string]struct {
		port       int
		prog, proc uint32
		args       func(*xdr.Writer)
	}{
		"MOUNT":   {portMount, progMount, 1, func(w *xdr.Writer) { w.String(h.aPath) }},
		"GETATTR": {portNFS, progNFS, procGetAttr, func(w *xdr.Writer) { w.Opaque(h.aRoot) }},
	} {
		conn, err := h.s.dial(c.port, 0)
		must(h.t, err)
		r, err := h.s.callOn(conn, c.prog, c.proc, c.args)
		conn.Close()
		if err == nil && r.Uint32() == 0 {
			h.t.Errorf("%s from a high port is served", name)
		}
	}
}

// paths asks for names that lead out of the boot directory.
func (h *hostile) paths() {
	own := h.a.serial.String() + "/"
	for _, name := range []string{
		own + "../../etc/hostname", own + "../" + "etc/hostname", own + "overlays/../../../etc/hostname",
		own + "/etc/hostname", "/etc/hostname", "etc/hostname", "../etc/hostname", "//etc/hostname", "/proc/self/environ",
		own + "..", own, ".", "", "/", own + "config.txt/../../../etc/hostname", own + strings.Repeat("../", 60) + "etc/passwd",
		own + strings.Repeat("x", 400), own + "a\\..\\b", own + "\x01\xff", "../" + h.b.serial.String() + "/config.txt",
		own + "../" + h.b.serial.String() + "/config.txt",
	} {
		h.noFile(name)
	}
	h.hasFile(own + "config.txt")
	h.hasFile(own + "start.elf")
}

// planted makes in A's root what is dangerous on a host: links that lead out,
// device nodes, fifos, setuid programs.
func (h *hostile) planted() {
	own := h.a.serial.String() + "/"
	fw := h.s.walk(h.aRoot, "boot/firmware")
	for name, target := range map[string]string{
		"absolute": "/etc/hostname", "up": "../../etc/hostname", "far-up": "../../../../../../../../etc/passwd",
		"proc": "/proc/self/environ", "to-dir": "/etc", "loop": "loop", "state": h.l.state() + "/nfs.key",
	} {
		st, _ := h.s.nfs(procSymlink, fw, func(w *xdr.Writer) {
			w.String(name)
			sattr(w, 0o777)
			w.String(target)
		})
		h.made("symlink "+name, st)
		h.noFile(own + name)
	}
	h.noFile(own + "to-dir/hostname")
	const fifo, char, block, socket = 7, 4, 3, 6
	for name, c := range map[string]struct{ kind, major, minor uint32 }{
		"fifo": {fifo, 0, 0}, "mem": {char, 1, 1}, "null": {char, 1, 3}, "disk": {block, 8, 0}, "socket": {socket, 0, 0},
	} {
		st, r := h.s.nfs(procMknod, fw, func(w *xdr.Writer) {
			w.String(name)
			w.Uint32(c.kind)
			sattr(w, 0o666)
			if c.kind == char || c.kind == block {
				w.Uint32(c.major)
				w.Uint32(c.minor)
			}
		})
		h.made(name, st)
		h.noFile(own + name)
		if r.Bool() {
			if st, _ := h.s.nfs(procRead, r.Opaque(64), func(w *xdr.Writer) { w.Uint64(0); w.Uint32(10) }); st == 0 {
				h.t.Errorf("READ of %s is served", name)
			}
		}
		if st, _ := h.s.nfs(procGetAttr, fw, nil); st != 0 { // nothing of it holds the server up
			h.t.Errorf("GETATTR after %s: status %d", name, st)
		}
	}
	st, _ := h.s.nfs(procCreate, fw, func(w *xdr.Writer) {
		w.String("setuid")
		w.Uint32(0)
		sattr(w, 0o6755)
	})
	h.made("setuid", st)
	h.harmless(filepath.Join(h.l.root(h.a.serial, h.l.slot(h.a.serial, record.SlotCurrent))))
	h.hasFile(own + "start.elf")
}

// harmless looks at what was planted from the host.
func (h *hostile) harmless(root string) {
	h.t.Helper()
	points, err := harness.MountPoints(filepath.Dir(root))
	must(h.t, err)
	for _, p := range points {
		if opts := "," + p.Options + ","; !strings.Contains(opts, ",nosuid,") || !strings.Contains(opts, ",nodev,") {
			h.t.Errorf("%q is mounted %q", p.Mountpoint, p.Options)
		}
	}
	fw := filepath.Join(root, "boot/firmware")
	if f, err := os.Open(filepath.Join(fw, "null")); err == nil {
		f.Close()
		h.t.Error("a device node that a board made opens a device on the host")
	}
	if fi, err := os.Lstat(filepath.Join(fw, "setuid")); err != nil || fi.Mode()&os.ModeSetuid == 0 {
		h.t.Errorf("the setuid file: %v, %v", fi, err)
	}
	for dir := filepath.Dir(filepath.Dir(root)); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		must(h.t, unix.Stat(dir, &st))
		if st.Mode&0o077 == 0 {
			return
		}
		if dir == "/" {
			h.t.Error("the boards' roots can be reached by all users of the host")
			return
		}
	}
}

// noFile asks for a file that A must not get.
func (h *hostile) noFile(name string) {
	h.t.Helper()
	if b := h.s.tftp(name); len(b) > 1 && b[1] != 5 {
		h.t.Errorf("TFTP of %q is answered with %.60q", name, b)
	}
}

// hasFile asks for a file that A must get.
func (h *hostile) hasFile(name string) {
	h.t.Helper()
	harness.Until(h.t, 20*time.Second, "TFTP of "+name, func() error {
		if b := h.s.tftp(name); len(b) < 2 || b[1] != 6 {
			return fmt.Errorf("answered with %.60q", b)
		}
		return nil
	})
}

func (h *hostile) made(what string, status uint32) {
	h.t.Helper()
	if status != 0 {
		h.t.Errorf("making %s: status %d", what, status)
	}
}

// sattr is an sattr3 of RFC 1813 that sets the mode only.
func sattr(w *xdr.Writer, mode uint32) {
	w.Bool(true)
	w.Uint32(mode)
	for range 5 {
		w.Uint32(0)
	}
}

func allowBroadcast(t *testing.T, c *net.UDPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	}))
	must(t, err)
}

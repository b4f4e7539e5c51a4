package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/cmd/rubus/e2e/harness"
	"rubus/nfsexport/xdr"
)

// stations counts stations: their cards need names.
var stations atomic.Int32

// station is a card on the lab's network with this host's kernel behind it and
// no more: tests say each packet themselves.
type station struct {
	t      *testing.T
	server string
	card   string // its end on the bridge
	work   chan func()
	port   int
	conns  map[int]net.Conn
	xid    uint32
}

// Programs and statuses of RFC 1813.
const (
	progNFS, progMount     = 100003, 100005
	portNFS, portMount     = 2049, 20048
	mntAcces               = 13
	procGetAttr, procSet   = 1, 2
	procLookup, procRead   = 3, 6
	procWrite, procCreate  = 7, 8
	procSymlink, procMknod = 10, 11
)

// station puts a card into the lab's network.
func (l *lab) station(mac string, host int) *station {
	l.t.Helper()
	s := &station{t: l.t, server: l.host.String(), work: make(chan func()), conns: map[int]net.Conn{}, port: 600 + int(stations.Add(1))%300}
	name := fmt.Sprintf("st%d", stations.Load())
	tid := make(chan int)
	go func() {
		// The thread ends with its goroutine, as it is never unlocked; the
		// namespace and the card in it go with the thread.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			tid <- -1
			return
		}
		tid <- unix.Gettid()
		for f := range s.work {
			f()
		}
	}()
	id := <-tid
	if id < 0 {
		l.t.Fatal("no network namespace of its own")
	}
	s.card = name
	l.t.Cleanup(s.close)
	harness.Run(l.t, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(id))
	harness.Run(l.t, "ip", "link", "set", name, "master", l.bridge, "up")
	s.in(func() {
		script := fmt.Sprintf("ip link set lo up; ip link set eth0 address %s; ip addr add %s/24 dev eth0; ip link set eth0 up", mac, l.addr(host))
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			l.t.Errorf("station: %v\n%s", err, out)
		}
	})
	return s
}

// in runs f in the station's network namespace.
func (s *station) in(f func()) {
	done := make(chan struct{})
	s.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// close takes the station off the network, at once: a word of its card would
// send there what is for the next one with its address.
func (s *station) close() {
	if s.work == nil {
		return
	}
	for _, c := range s.conns {
		c.Close()
	}
	close(s.work)
	s.work = nil
	out, err := exec.Command("ip", "link", "del", s.card).CombinedOutput()
	if _, gone := net.InterfaceByName(s.card); err != nil && gone == nil { // else it went with its namespace
		s.t.Logf("ip link del %s: %v: %s", s.card, err, out)
	}
}

// dial connects from a port: 0 is any.
func (s *station) dial(port, from int) (c net.Conn, err error) {
	s.in(func() {
		d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{Port: from}}
		c, err = d.Dial("tcp4", net.JoinHostPort(s.server, fmt.Sprint(port)))
	})
	return c, err
}

// udp is a socket of the station.
func (s *station) udp() *net.UDPConn {
	s.t.Helper()
	var c *net.UDPConn
	var err error
	s.in(func() { c, err = net.ListenUDP("udp4", nil) })
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// call makes one RPC as root from a privileged port, on a connection that stays.
func (s *station) call(port int, prog, proc uint32, args func(*xdr.Writer)) (xdr.Reader, error) {
	c := s.conns[port]
	if c == nil {
		var err error
		s.port++
		if c, err = s.dial(port, s.port); err != nil {
			return xdr.Reader{}, err
		}
		s.conns[port] = c
	}
	r, err := s.callOn(c, prog, proc, args)
	if err != nil {
		c.Close()
		delete(s.conns, port)
	}
	return r, err
}

func (s *station) callOn(c net.Conn, prog, proc uint32, args func(*xdr.Writer)) (xdr.Reader, error) {
	s.xid++
	w := xdr.Writer{Buf: make([]byte, 4)}
	for _, v := range []uint32{s.xid, 0, 2, prog, 3, proc, 1, 20 + 4, 0, 4} {
		w.Uint32(v)
	}
	w.Buf = append(w.Buf, "test"...)
	for range 3 { // uid, gid, no groups
		w.Uint32(0)
	}
	w.PutUint32(4+7*4, uint32(len(w.Buf)-4-8*4))
	w.Uint32(0)
	w.Uint32(0)
	if args != nil {
		args(&w)
	}
	w.PutUint32(0, 1<<31|uint32(len(w.Buf)-4))
	if err := c.SetDeadline(time.Now().Add(90 * time.Second)); err != nil {
		return xdr.Reader{}, err
	}
	if _, err := c.Write(w.Buf); err != nil {
		return xdr.Reader{}, err
	}
	var mark [4]byte
	if _, err := io.ReadFull(c, mark[:]); err != nil {
		return xdr.Reader{}, err
	}
	b := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
	if _, err := io.ReadFull(c, b); err != nil {
		return xdr.Reader{}, err
	}
	r := xdr.NewReader(b)
	head := []uint32{r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32()}
	r.Opaque(400)
	if status := r.Uint32(); head[0] != s.xid || head[1] != 1 || head[2] != 0 || status != 0 {
		return r, fmt.Errorf("RPC reply %v, status %d", head, status)
	}
	return r, nil
}

// mount is MNT; it gives the status and the root's handle.
func (s *station) mount(path string) (uint32, []byte) {
	s.t.Helper()
	r, err := s.call(portMount, progMount, 1, func(w *xdr.Writer) { w.String(path) })
	must(s.t, err)
	st := r.Uint32()
	if st != 0 {
		return st, nil
	}
	return st, r.Opaque(64)
}

// nfs makes an NFS call with a handle and more, and gives status and results.
func (s *station) nfs(proc uint32, h []byte, args func(*xdr.Writer)) (uint32, xdr.Reader) {
	s.t.Helper()
	r, err := s.call(portNFS, progNFS, proc, func(w *xdr.Writer) {
		w.Opaque(h)
		if args != nil {
			args(w)
		}
	})
	must(s.t, err)
	return r.Uint32(), r
}

// walk looks up a path from a directory; every name must be there.
func (s *station) walk(h []byte, path string) []byte {
	s.t.Helper()
	for name := range strings.SplitSeq(path, "/") {
		st, r := s.nfs(procLookup, h, func(w *xdr.Writer) { w.String(name) })
		if st != 0 {
			s.t.Fatalf("LOOKUP %q: status %d", name, st)
		}
		h = r.Opaque(64)
	}
	return h
}

// read reads the first 4 KiB of a file.
func (s *station) read(h []byte) string {
	s.t.Helper()
	st, r := s.nfs(procRead, h, func(w *xdr.Writer) { w.Uint64(0); w.Uint32(4096) })
	if st != 0 {
		s.t.Fatalf("READ: status %d", st)
	}
	if r.Bool() {
		r.Fixed(84)
	}
	r.Uint32()
	r.Bool()
	return string(r.Opaque(4096))
}

// tftp asks for a file and gives the first packet of the answer; after a second
// without any it is nil.
func (s *station) tftp(name string) []byte {
	s.t.Helper()
	c := s.udp()
	defer c.Close()
	b := append([]byte{0, 1}, name...)
	b = append(b, "\x00octet\x00tsize\x000\x00"...)
	_, err := c.WriteToUDP(b, &net.UDPAddr{IP: net.ParseIP(s.server), Port: 69})
	must(s.t, err)
	must(s.t, c.SetReadDeadline(time.Now().Add(3*time.Second)))
	in := make([]byte, 2048)
	n, from, err := c.ReadFromUDP(in)
	if os.IsTimeout(err) {
		return nil
	}
	must(s.t, err)
	if in[1] != 5 { // not an ERROR: break it off
		_, _ = c.WriteToUDP([]byte{0, 5, 0, 0, 'x', 0}, from)
	}
	return in[:n]
}

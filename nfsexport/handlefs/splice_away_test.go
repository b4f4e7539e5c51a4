package handlefs

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsload"
	"rubus/nfsexport/sunrpc"
)

// TestSplicedAndUnmounted: a client that is slow to take what it read holds up neither the
// end of its export nor the unmounting of the disk that its image lies on, and gets what it
// read all the same.
func TestSplicedAndUnmounted(t *testing.T) {
	const size = 1 << 20
	data := make([]byte, size)
	for r, i := rand.New(rand.NewPCG(1, 1)), 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(data[i:], r.Uint64())
	}
	dir := diskOf(t, "ext4")
	w := newWorld(t, dir, Options{}, true, func(lower string) {
		must(t, os.WriteFile(filepath.Join(lower, "f"), data, 0o644))
	})
	settle()
	w.exp.Client, w.exp.InsecurePorts = netip.MustParseAddr("127.0.0.1"), true
	w.publish(t)
	run(t, "ip", "link", "set", "lo", "up")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := sunrpc.New(sunrpc.Config{Programs: []sunrpc.Program{nfs3.NewProgram(w.FS)}})
	over := make(chan error, 1)
	go func() { over <- s.Serve(t.Context(), []net.Listener{l}, nil) }()
	t.Cleanup(func() { <-over })
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	}}
	c, err := d.Dial("tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	fh := nfsload.Handle(w.lookupServed(t, "f"))
	const reads = 6
	for xid := range uint32(reads) {
		call := bytes.Clone(nfsload.Read(fh, 0, size))
		binary.BigEndian.PutUint32(call[4:], xid)
		_, err = c.Write(call)
		must(t, err)
	}
	for late := time.Now().Add(time.Minute); piped(t) == 0; runtime.Gosched() { // until the socket has no room for more
		if time.Now().After(late) {
			t.Fatal("nothing is in a pipe")
		}
	}

	must(t, w.Withdraw(w.exp.ID))
	w.ov.Unmount(t)
	must(t, unix.Unmount(dir, 0))
	must(t, c.(*net.TCPConn).SetReadBuffer(size))

	got := 0
	for range reads {
		var mark [4]byte
		_, err = io.ReadFull(c, mark[:])
		must(t, err)
		reply := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
		_, err = io.ReadFull(c, reply)
		must(t, err)
		if len(reply) < size {
			continue // asked for when the export had ended
		}
		if got++; !bytes.Equal(reply[len(reply)-size:], data) {
			t.Errorf("reply %d has other data", got)
		}
	}
	if got == 0 || got == reads {
		t.Errorf("%d of %d replies were made before the export's end", got, reads)
	}
}

// piped is how many bytes this process has in pipes.
func piped(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range fds {
		name, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if fd, err := strconv.Atoi(e.Name()); err == nil && strings.HasPrefix(name, "pipe:") {
			m, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
			n += m
		}
	}
	return n
}

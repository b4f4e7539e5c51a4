package unfsd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmware/go-nfs-client/nfs"
	"github.com/vmware/go-nfs-client/nfs/rpc"

	"rubus/nfsexport"
	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/sunrpc"
)

// host is an address of the loopback network where nothing else listens: the
// client insists on port 111.
const host = "127.85.83.1"

// store is a root with one file in it. What it does not implement panics.
type store struct {
	nfs3.FS
	published []nfsexport.ID
}

func (s *store) Publish(x nfsexport.Export) error {
	s.published = append(s.published, x.ID)
	return nil
}
func (s *store) Withdraw(nfsexport.ID) error { return nil }

func (s *store) RootHandle(nfsexport.ID) ([]byte, error) { return []byte("root"), nil }

func (s *store) Expects(netip.Addr) bool { return true }

func (s *store) FSInfo(_ *nfs3.Call, fh []byte, a *nfs3.PostAttr) nfs3.Status {
	if string(fh) != "root" {
		return nfs3.ErrStale
	}
	*a = nfs3.PostAttr{OK: true, Attr: nfs3.Attr{Type: nfs3.TypeDir, Mode: 0o755, Nlink: 2, FileID: 1}}
	return nfs3.OK
}

func (s *store) Lookup(_ *nfs3.Call, dir []byte, name string, h *[]byte, a, _ *nfs3.PostAttr) nfs3.Status {
	if string(dir) != "root" || name != "hello" {
		return nfs3.ErrNoEnt
	}
	*h = append(*h, "file"...)
	*a = nfs3.PostAttr{OK: true, Attr: nfs3.Attr{Type: nfs3.TypeReg, Mode: 0o644, Nlink: 1, FileID: 2, Size: 6}}
	return nfs3.OK
}

func (s *store) Read(_ *nfs3.Call, _ []byte, off uint64, buf []byte, _ *nfs3.PostAttr) (int, bool, nfs3.Status) {
	text := []byte("world\n")
	n := copy(buf, text[min(off, uint64(len(text))):])
	return n, true, nfs3.OK
}

func mounter(_ context.Context, path string, peer netip.AddrPort) ([]byte, mount3.Status) {
	switch {
	case !peer.Addr().IsLoopback():
		return nil, mount3.ErrAcces
	case path != "/5b154510":
		return nil, mount3.ErrNoEnt
	}
	return []byte("root"), mount3.OK
}

func start(t *testing.T) *Backend {
	t.Helper()
	b := New(Config{
		Store: &store{}, Mounter: mount3.MounterFunc(mounter),
		Addrs:     []netip.Addr{netip.MustParseAddr(host)},
		CachePath: filepath.Join(t.TempDir(), "drc"),
	})
	if err := b.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error)
	go func() { over <- b.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return b
}

// TestClient lets another implementation find, mount, read and unmount.
func TestClient(t *testing.T) {
	start(t)
	m, err := nfs.DialMount(host)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	auth := rpc.NewAuthUnix("board", 0, 0)
	if _, err := m.Mount("/other", auth.Auth()); err == nil || !strings.Contains(err.Error(), "NOENT") {
		t.Errorf("mount of nothing: %v", err)
	}
	v, err := m.Mount("/5b154510/", auth.Auth())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	info, fh, err := v.Lookup("/hello")
	if err != nil || string(fh) != "file" || info.Size() != 6 {
		t.Errorf("lookup: %v, %q, %v", info, fh, err)
	}
	f, err := v.Open("/hello")
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 6)
	if n, err := f.Read(text); n != 6 || string(text) != "world\n" {
		t.Errorf("read %q, %v", text[:n], err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
}

// TestExtend has a server answer on one more address, with all of its programs;
// one that this machine does not have changes nothing.
func TestExtend(t *testing.T) {
	const second = "127.85.83.2"
	b := start(t)
	if _, err := nfs.DialMount(second); err == nil {
		t.Fatalf("something answers on %s", second)
	}
	for range 2 {
		err := b.Extend(t.Context(), netip.MustParseAddr("192.0.2.77"))
		var le *ListenError
		if !errors.As(err, &le) || !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("a foreign address: %v", err)
		}
	}
	if err := b.Extend(t.Context(), netip.MustParseAddr(second)); err != nil {
		t.Fatal(err)
	}
	// What it has it does not take again, nor does it lose it by trying.
	if err := b.Extend(t.Context(), netip.MustParseAddr(second)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the same address again: %v", err)
	}
	for _, addr := range []string{host, second} {
		m, err := nfs.DialMount(addr) // by way of its port mapper
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		v, err := m.Mount("/5b154510", rpc.NewAuthUnix("board", 0, 0).Auth())
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		if info, _, err := v.Lookup("/hello"); err != nil || info.Size() != 6 {
			t.Errorf("%s: lookup: %v, %v", addr, info, err)
		}
		v.Close()
		m.Close()
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Config{Store: &store{}}).Extend(over, netip.MustParseAddr(second)); err == nil {
		t.Error("extended a server that does not serve")
	}
}

// TestDatagrams asks port mapper and MOUNT over UDP; NFS is not there, and the
// big answer is not sent.
func TestDatagrams(t *testing.T) {
	start(t)
	call := func(prog, vers, proc uint32, args ...uint32) []byte {
		var b []byte
		for _, v := range append([]uint32{1, 0, 2, prog, vers, proc, 0, 0, 0, 0}, args...) {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		return b
	}
	ask := func(port int, msgs ...[]byte) []byte {
		t.Helper()
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(host), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		for _, m := range msgs {
			if _, err := c.Write(m); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 2000)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return b[24:n]
	}
	port := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	if got := ask(111, call(100000, 2, 3, 100005, 3, 17, 0)); !bytes.Equal(got, port(20048)) {
		t.Errorf("port of MOUNT over UDP: % x", got)
	}
	if got := ask(111, call(100000, 2, 3, 100003, 3, 17, 0)); !bytes.Equal(got, port(0)) {
		t.Errorf("port of NFS over UDP: % x", got)
	}
	// DUMP first: had it been answered, the answer would be longer.
	if got := ask(111, call(100000, 2, 4), call(100000, 2, 3, 100003, 3, 6, 0)); !bytes.Equal(got, port(2049)) {
		t.Errorf("port of NFS over TCP: % x", got)
	}
	path := []uint32{9, binary.BigEndian.Uint32([]byte("/5b1")), binary.BigEndian.Uint32([]byte("5451")), binary.BigEndian.Uint32([]byte("0\x00\x00\x00"))}
	want := []byte("\x00\x00\x00\x00\x00\x00\x00\x04root\x00\x00\x00\x01\x00\x00\x00\x01")
	if got := ask(20048, call(100005, 3, 1, path...)); !bytes.Equal(got, want) {
		t.Errorf("MNT over UDP: % x", got)
	}
}

func TestPortInUse(t *testing.T) {
	start(t)
	b := New(Config{Store: &store{}, Mounter: mount3.MounterFunc(mounter), Addrs: []netip.Addr{netip.MustParseAddr(host)}})
	err := b.Listen(t.Context())
	var le *ListenError
	if !errors.As(err, &le) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("got %v", err)
	}
	want := strings.Join([]string{
		"listening on 127.85.83.1:2049/tcp: address already in use",
		"listening on 127.85.83.1:20048/tcp: address already in use",
		"listening on 127.85.83.1:20048/udp: address already in use",
		"listening on 127.85.83.1:111/tcp: address already in use",
		"listening on 127.85.83.1:111/udp: address already in use",
	}, "\n")
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestForeignAddress(t *testing.T) {
	b := New(Config{Store: &store{}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	if err := b.Listen(t.Context()); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("got %v", err)
	}
}

func TestPrograms(t *testing.T) {
	b := start(t)
	if err := b.Publish(nfsexport.Export{ID: 7}); err != nil || b.Store.(*store).published[0] != 7 {
		t.Errorf("publish: %v", err)
	}
	c, err := net.Dial("tcp4", net.JoinHostPort(host, "2049"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, prog := range []uint32{100227, 100021} { // NFSACL, NLM
		var m []byte
		for _, v := range []uint32{0x80000000 | 40, 1, 0, 2, prog, 3, 0, 0, 0, 0, 0} {
			m = binary.BigEndian.AppendUint32(m, v)
		}
		if _, err := c.Write(m); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 28)
		if _, err := c.Read(got); err != nil || binary.BigEndian.Uint32(got[24:]) != uint32(sunrpc.ProgUnavail) {
			t.Errorf("program %d: % x, %v", prog, got, err)
		}
	}
	if n := b.Stats().Conns; n != 1 {
		t.Errorf("%d connections", n)
	}
}

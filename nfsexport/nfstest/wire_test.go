package nfstest_test

import (
	"bytes"
	"flag"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfstest"
)

var (
	wireFlag   = flag.String("wire", "", "run the checks of the wire on the server at this address instead of ours")
	exportFlag = flag.String("export", "", "the path to mount there")
)

// wireEnv is what a check of the wire works with: a connection, and a directory
// of mode 0777.
type wireEnv struct {
	*conn
	*testing.T
	root, dir []byte
}

// wireCheck is one thing a server must do.
type wireCheck struct {
	name string
	f    func(e *wireEnv)
}

func wireChecks() []wireCheck { return slices.Concat(wireNameChecks, wireIOChecks) }

// The users of the checks.
var (
	alice = cred{uid: 3001, gid: 4001}
	bob   = cred{uid: 3002, gid: 4002}
)

// TestWire makes the calls that no client kernel makes, or not in this way, on
// our server or on the one of -wire.
func TestWire(t *testing.T) {
	addr, path := *wireFlag, *exportFlag
	if addr == "" {
		serveLocal(t, nfstest.Golden(t))
		addr, path = localAddr, exportPath
	}
	host := netip.MustParseAddr(addr)
	fh := mountPath(t, host, path)
	t.Run("wire", func(t *testing.T) {
		for i, ch := range wireChecks() {
			t.Run(ch.name, func(t *testing.T) {
				e := &wireEnv{conn: dial(t, netip.AddrPortFrom(host, 2049)), T: t, root: fh}
				e.dir = e.mkdir(fh, "wire"+string(rune('a'+i)), 0o777)
				ch.f(e)
			})
		}
	})
}

func mode(m uint32) nfs3.SetAttr { return nfs3.SetAttr{SetMode: true, Mode: m} }

func (e *wireEnv) mkdir(dir []byte, name string, m uint32) []byte {
	e.Helper()
	r := e.call(root, nfs3.ProcMkdir, dir, name, mode(m)).must("mkdir " + name)
	return r.made().Handle
}

// file makes a file of mode 0644 with some data.
func (e *wireEnv) file(name, data string) []byte {
	e.Helper()
	fh := e.call(root, nfs3.ProcCreate, e.dir, name, int(nfs3.Guarded), mode(0o644)).must("create " + name).made().Handle
	if data != "" {
		e.call(root, nfs3.ProcWrite, fh, uint64(0), len(data), int(nfs3.FileSync), data).must("write")
	}
	return fh
}

// every makes an object of each kind; the order is that of ftype3.
func (e *wireEnv) every() map[nfs3.FileType][]byte {
	e.Helper()
	all := map[nfs3.FileType][]byte{
		nfs3.TypeReg: e.file("file", "text"),
		nfs3.TypeDir: e.mkdir(e.dir, "dir", 0o755),
		nfs3.TypeLink: e.call(root, nfs3.ProcSymlink, e.dir, "link", nfs3.SetAttr{}, "target").
			must("symlink").made().Handle,
	}
	for t, name := range map[nfs3.FileType]string{nfs3.TypeBlock: "block", nfs3.TypeChar: "char"} {
		all[t] = e.call(root, nfs3.ProcMknod, e.dir, name, int(t), mode(0o644), 5, 6).must("mknod").made().Handle
	}
	for t, name := range map[nfs3.FileType]string{nfs3.TypeFifo: "fifo", nfs3.TypeSocket: "socket"} {
		all[t] = e.call(root, nfs3.ProcMknod, e.dir, name, int(t), mode(0o644)).must("mknod").made().Handle
	}
	return all
}

func (e *wireEnv) attr(fh []byte) nfs3.Attr {
	e.Helper()
	r := e.call(root, nfs3.ProcGetAttr, fh).must("getattr")
	a := r.attr()
	r.end("getattr")
	return a
}

// same wants attributes that came with a reply to be those that GETATTR gives,
// but for the time of the last access, which the call itself may move.
func (e *wireEnv) same(what string, p nfs3.PostAttr, fh []byte) {
	e.Helper()
	a := e.attr(fh)
	if p.Atime = a.Atime; p.OK && p.Attr != a {
		e.Errorf("%s came with attributes\n%+v, and they are\n%+v", what, p.Attr, a)
	}
}

// changed wants the wcc of a reply to be true: before is what GETATTR gave.
func (e *wireEnv) changed(what string, before nfs3.Attr, w nfs3.Wcc, fh []byte) {
	e.Helper()
	if w.Before.OK && (w.Before.Size != before.Size || w.Before.Mtime != before.Mtime || w.Before.Ctime != before.Ctime) {
		e.Errorf("%s: before it %+v, it says %+v", what, before, w.Before)
	}
	e.same(what, w.After, fh)
}

// names lists a directory whole, by READDIR.
func (e *wireEnv) names(dir []byte, count int) (names []string) {
	e.Helper()
	cookie, verf := uint64(0), uint64(0)
	for {
		r := e.call(root, nfs3.ProcReadDir, dir, cookie, verf, count).must("readdir")
		r.post()
		verf = r.r.Uint64()
		list, eof := r.entries(false)
		r.end("readdir")
		for _, x := range list {
			if cookie = x.Cookie; x.Name != "." && x.Name != ".." {
				names = append(names, x.Name)
			}
		}
		if eof {
			return names
		}
		if len(list) == 0 {
			e.Fatal("a listing that does not end, of nothing")
		}
	}
}

// read gives what a file holds.
func (e *wireEnv) read(fh []byte) string {
	e.Helper()
	r := e.call(root, nfs3.ProcRead, fh, uint64(0), 65536).must("read")
	e.same("read", r.post(), fh)
	n := r.r.Uint32()
	r.r.Bool()
	data := r.r.Opaque(65536)
	r.end("read")
	if int(n) != len(data) {
		e.Errorf("read: count %d, %d bytes", n, len(data))
	}
	return string(bytes.Clone(data))
}

var longName = strings.Repeat("n", 256)

package nfsreplay

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/xdr"
)

// client is a client whose packets are kept, as a capture has them.
type client struct {
	t        *testing.T
	conn     net.Conn
	frames   [][]byte
	up, down uint32
	xid      uint32
}

// packet keeps bytes of the connection, in packets of at most 700.
func (c *client) packet(up bool, b []byte) {
	for len(b) > 0 {
		n := min(len(b), 700)
		f := make([]byte, 14+40, 14+40+n)
		be := binary.BigEndian
		be.PutUint16(f[12:], 0x0800)
		f[14], f[23] = 0x45, 6
		be.PutUint16(f[16:], uint16(40+n))
		copy(f[26:], []byte{10, 0, 0, 1, 10, 0, 0, 1})
		t := f[34:]
		t[12] = 5 << 4
		// Sequence numbers wrap round on the way.
		const upISN, downISN = 1<<32 - 300, 1<<32 - 5000
		if up {
			be.PutUint16(t, 800)
			be.PutUint16(t[2:], 2049)
			be.PutUint32(t[4:], upISN+c.up)
			be.PutUint32(t[8:], downISN+c.down)
			c.up += uint32(n)
		} else {
			be.PutUint16(t, 2049)
			be.PutUint16(t[2:], 800)
			be.PutUint32(t[4:], downISN+c.down)
			be.PutUint32(t[8:], upISN+c.up)
			c.down += uint32(n)
		}
		c.frames = append(c.frames, append(f, b[:n]...))
		b = b[n:]
	}
}

// send makes a call, and receive takes the next answer.
func (c *client) send(proc uint32, args ...any) {
	c.t.Helper()
	c.xid++
	var w xdr.Writer
	header(&w, c.xid, nfs3.Number, nfs3.Version, proc, Cred{UID: 0, Groups: []uint32{7}})
	for _, a := range args {
		switch a := a.(type) {
		case []byte:
			w.Opaque(a)
		case string:
			w.String(a)
		case int:
			w.Uint32(uint32(a))
		case uint64:
			w.Uint64(a)
		default:
			c.t.Fatalf("%T", a)
		}
	}
	w.PutUint32(0, 1<<31|uint32(w.Len()-4))
	c.packet(true, w.Buf)
	if _, err := c.conn.Write(w.Buf); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) receive() (uint32, xdr.Reader) {
	c.t.Helper()
	var mark [4]byte
	if _, err := io.ReadFull(c.conn, mark[:]); err != nil {
		c.t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
	c.packet(false, append(mark[:], b...))
	d := xdr.NewReader(b[24:])
	return d.Uint32(), d
}

// do makes a call and wants a status.
func (c *client) do(status, proc uint32, args ...any) xdr.Reader {
	c.t.Helper()
	c.send(proc, args...)
	got, d := c.receive()
	if got != status {
		c.t.Fatalf("procedure %d: status %d", proc, got)
	}
	return d
}

// made takes the handle of a new object.
func made(d xdr.Reader) []byte {
	d.Bool()
	return bytes.Clone(d.Opaque(64))
}

// work does of each kind something, on a root as newExports makes it.
func (c *client) work(root []byte) {
	none := []any{0, 0, 0, 0, 0, 0} // no attribute is set
	with := func(a ...any) []any { return append(a, none...) }
	c.do(0, nfs3.ProcFSInfo, root)
	d := c.do(0, nfs3.ProcLookup, root, "list")
	list := bytes.Clone(d.Opaque(64))
	c.do(2, nfs3.ProcLookup, root, "not there")
	// A listing in several parts, whose handles are used.
	var cookie, verf uint64
	var entries [][]byte
	for eof := false; !eof; {
		d = c.do(0, nfs3.ProcReadDirPlus, list, cookie, verf, 512, 2048)
		verf = verifier(d)
		for _, e := range results(nfs3.ProcReadDirPlus, nil, &d) {
			if cookie = e.cookie; e.handle != nil {
				entries = append(entries, bytes.Clone(e.handle))
			}
		}
		eof = d.Bool()
	}
	// Two at once.
	c.send(nfs3.ProcRead, entries[3], uint64(0), 4096)
	c.send(nfs3.ProcRead, entries[39], uint64(0), 4096)
	c.receive()
	c.receive()
	c.do(0, nfs3.ProcReadDir, list, uint64(0), uint64(0), 4096)
	file := made(c.do(0, nfs3.ProcCreate, with(root, "new", 1)...))
	c.do(0, nfs3.ProcWrite, file, uint64(100), 3000, 2, make([]byte, 3000))
	c.do(0, nfs3.ProcCommit, file, uint64(0), 0)
	dir := made(c.do(0, nfs3.ProcMkdir, with(root, "dir")...))
	c.do(0, nfs3.ProcRename, root, "new", dir, "newer")
	c.do(0, nfs3.ProcLink, file, dir, "linked")
	c.do(0, nfs3.ProcSymlink, append(with(dir, "link"), "newer")...)
	c.do(0, nfs3.ProcRemove, list, "entry-07")
	c.do(0, nfs3.ProcGetAttr, file)
}

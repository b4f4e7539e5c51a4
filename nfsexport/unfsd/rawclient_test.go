package unfsd_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/xdr"
)

const serverAddr = "127.85.84.1"

// patience is how long any answer may take, by what docs/nfs.md promises a good
// client whatever others do.
const patience = 10 * time.Second

// raw is a connection that says whatever it is told to.
type raw struct {
	net.Conn
	xid uint32
}

// dial connects from an address; low: from a port below 1024.
func dial(from netip.Addr, port uint16, low bool) (*raw, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: patience}
	for try := 1023; ; try-- {
		if low {
			d.LocalAddr = &net.TCPAddr{IP: from.AsSlice(), Port: try}
		}
		c, err := d.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(serverAddr), port).String())
		if low && try > 600 && (errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &raw{Conn: c}, nil
	}
}

// cred is an AUTH_SYS credential (RFC 5531 appendix A).
type cred struct {
	uid, gid uint32
	groups   []uint32
}

func (c cred) append(w *xdr.Writer) {
	body := xdr.Writer{}
	body.Uint32(1)
	body.String("board")
	body.Uint32(c.uid)
	body.Uint32(c.gid)
	body.Uint32(uint32(len(c.groups)))
	for _, g := range c.groups {
		body.Uint32(g)
	}
	w.Uint32(1)
	w.Opaque(body.Buf)
}

// message is a call as it goes into a record (RFC 5531 section 9).
func message(xid, prog, vers, proc uint32, who cred, args []byte) []byte {
	var w xdr.Writer
	for _, v := range []uint32{xid, 0, 2, prog, vers, proc} {
		w.Uint32(v)
	}
	who.append(&w)
	w.Uint32(0)
	w.Uint32(0)
	return append(w.Buf, args...)
}

// record frames a message as one fragment (RFC 5531 section 11).
func record(m []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, 1<<31|uint32(len(m))), m...)
}

// reply reads one record's message.
func (c *raw) reply() ([]byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n&(1<<31) == 0 || n&^(1<<31) > 2<<20 {
		return nil, fmt.Errorf("a reply in fragments, or of %d bytes", n&^(1<<31))
	}
	b := make([]byte, n&^(1<<31))
	_, err := io.ReadFull(c, b)
	return b, err
}

// errRPC is an answer that is no result: rejected, or not accepted.
type errRPC struct{ stat, code uint32 }

func (e *errRPC) Error() string { return fmt.Sprintf("rpc: reply_stat %d, code %d", e.stat, e.code) }

// results takes a reply apart (RFC 5531 section 9): the results, or an errRPC.
func results(b []byte, xid uint32) (*xdr.Reader, error) {
	r := xdr.NewReader(b)
	if got := r.Uint32(); got != xid || r.Uint32() != 1 {
		return nil, fmt.Errorf("an answer to call %d, not %d", got, xid)
	}
	if stat := r.Uint32(); stat != 0 {
		return nil, &errRPC{stat, r.Uint32()}
	}
	r.Uint32()
	r.Opaque(400)
	if code := r.Uint32(); code != 0 || !r.OK() {
		return nil, &errRPC{0, code}
	}
	return &r, nil
}

// call makes a call and waits for its results.
func (c *raw) call(prog, vers, proc uint32, who cred, args []byte) (*xdr.Reader, error) {
	c.xid++
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.Write(record(message(c.xid, prog, vers, proc, who, args))); err != nil {
		return nil, err
	}
	b, err := c.reply()
	if err != nil {
		return nil, err
	}
	return results(b, c.xid)
}

// nfs makes an NFS call as root and gives its status and the rest.
func (c *raw) nfs(proc uint32, args []byte) (nfs3.Status, *xdr.Reader, error) {
	r, err := c.call(nfs3.Number, nfs3.Version, proc, cred{}, args)
	if err != nil {
		return 0, nil, err
	}
	return nfs3.Status(r.Uint32()), r, nil
}

// mountRoot asks MOUNT for the root handle of a path.
func mountRoot(from netip.Addr, path string) ([]byte, error) {
	c, err := dial(from, 20048, true)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var w xdr.Writer
	w.String(path)
	r, err := c.call(mount3.Number, 3, 1, cred{}, w.Buf)
	if err != nil {
		return nil, err
	}
	if st := r.Uint32(); st != 0 {
		return nil, fmt.Errorf("MOUNT of %s: status %d", path, st)
	}
	return r.Opaque(64), nil
}

// args builds arguments from handles (bytes), names, numbers and raw bytes.
func args(parts ...any) []byte {
	var w xdr.Writer
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			w.Opaque(p)
		case string:
			w.String(p)
		case uint32:
			w.Uint32(p)
		case int:
			w.Uint32(uint32(p))
		case uint64:
			w.Uint64(p)
		case verbatim:
			w.Buf = append(w.Buf, p...)
		default:
			panic(fmt.Sprintf("no argument is a %T", p))
		}
	}
	return w.Buf
}

// verbatim are bytes that go as they are.
type verbatim []byte

// modeOnly is a sattr3 that sets the mode.
func modeOnly(mode uint32) verbatim {
	return verbatim(args(1, mode, 0, 0, 0, 0, 0))
}

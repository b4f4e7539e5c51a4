package nfstest_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// conn is a connection to an RPC server on which calls go one after the other,
// made of bytes: so it can also make calls that no client makes.
type conn struct {
	t   *testing.T
	c   net.Conn
	xid uint32
}

// dial connects from a port below 1024, as only root of a board can.
func dial(t *testing.T, to netip.AddrPort) *conn {
	t.Helper()
	var err error
	for port := 1023; port > 512; port-- {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
		var c net.Conn
		if c, err = d.Dial("tcp4", to.String()); err == nil {
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
			return &conn{t: t, c: c, xid: uint32(port) << 16}
		}
	}
	t.Fatalf("connecting to %v: %v", to, err)
	return nil
}

// cred is an AUTH_SYS credential.
type cred struct {
	uid, gid uint32
	groups   []uint32
}

var root = cred{}

// reply is an answer: what RPC says, the status of NFS, and the results after it.
type reply struct {
	t      *testing.T
	denied bool
	rpc    uint32 // accept_stat, or reject_stat when denied
	status nfs3.Status
	r      xdr.Reader
}

// body is the credential as it goes over the wire (RFC 5531 appendix A).
func (who cred) body() []byte {
	var w xdr.Writer
	w.Uint32(1)
	w.String("nfstest")
	w.Uint32(who.uid)
	w.Uint32(who.gid)
	w.Uint32(uint32(len(who.groups)))
	for _, g := range who.groups {
		w.Uint32(g)
	}
	return w.Buf
}

// message is a call as it goes over the wire, without its record mark.
func message(xid, rpcvers, prog, vers, proc, flavor uint32, body, args []byte) []byte {
	var w xdr.Writer
	for _, v := range []uint32{xid, 0, rpcvers, prog, vers, proc, flavor} {
		w.Uint32(v)
	}
	w.Opaque(body)
	w.Uint32(0)
	w.Uint32(0)
	return append(w.Buf, args...)
}

// raw sends a call as one record and reads the answer.
func (c *conn) raw(msg []byte) *reply {
	c.t.Helper()
	if _, err := c.c.Write(append(binary.BigEndian.AppendUint32(nil, 1<<31|uint32(len(msg))), msg...)); err != nil {
		c.t.Fatal(err)
	}
	var rec []byte
	for last := false; !last; {
		var mark [4]byte
		if _, err := io.ReadFull(c.c, mark[:]); err != nil {
			c.t.Fatal(err)
		}
		n := binary.BigEndian.Uint32(mark[:])
		last = n>>31 != 0
		part := make([]byte, n&(1<<31-1))
		if _, err := io.ReadFull(c.c, part); err != nil {
			c.t.Fatal(err)
		}
		rec = append(rec, part...)
	}
	r := &reply{t: c.t, r: xdr.NewReader(rec)}
	if xid, typ := r.r.Uint32(), r.r.Uint32(); xid != binary.BigEndian.Uint32(msg) || typ != 1 {
		c.t.Fatalf("the answer has xid %d, type %d", xid, typ)
	}
	r.denied = r.r.Uint32() != 0
	if !r.denied {
		r.r.Uint32()
		r.r.Opaque(400)
	}
	r.rpc = r.r.Uint32()
	if !r.r.OK() {
		c.t.Fatalf("the answer is short: % x", rec)
	}
	return r
}

// call calls a procedure of NFS with results that begin with a status.
func (c *conn) call(who cred, proc uint32, args ...any) *reply {
	c.t.Helper()
	c.xid++
	r := c.raw(message(c.xid, 2, nfs3.Number, nfs3.Version, proc, sunrpc.AuthSys, who.body(), encode(args...)))
	if r.denied || r.rpc != 0 {
		c.t.Fatalf("procedure %d: denied %v, status %d of RPC", proc, r.denied, r.rpc)
	}
	r.status = nfs3.Status(r.r.Uint32())
	return r
}

// encode makes arguments: []byte is opaque, nfs3.SetAttr a sattr3.
func encode(args ...any) []byte {
	var w xdr.Writer
	for _, a := range args {
		switch a := a.(type) {
		case uint32:
			w.Uint32(a)
		case int:
			w.Uint32(uint32(a))
		case uint64:
			w.Uint64(a)
		case bool:
			w.Bool(a)
		case []byte:
			w.Opaque(a)
		case string:
			w.String(a)
		case nfs3.Time:
			w.Uint32(a.Sec)
			w.Uint32(a.Nsec)
		case nfs3.SetAttr:
			for _, f := range []struct {
				set bool
				v   uint32
			}{{a.SetMode, a.Mode}, {a.SetUID, a.UID}, {a.SetGID, a.GID}} {
				if w.Bool(f.set); f.set {
					w.Uint32(f.v)
				}
			}
			if w.Bool(a.SetSize); a.SetSize {
				w.Uint64(a.Size)
			}
			for _, f := range []struct {
				how nfs3.SetTime
				v   nfs3.Time
			}{{a.SetAtime, a.Atime}, {a.SetMtime, a.Mtime}} {
				if w.Uint32(uint32(f.how)); f.how == nfs3.SetToClient {
					w.Buf = append(w.Buf, encode(f.v)...)
				}
			}
		default:
			panic("encode: what is this?")
		}
	}
	return w.Buf
}

// want fails unless the status is one of some.
func (r *reply) want(what string, ok ...nfs3.Status) *reply {
	r.t.Helper()
	if !slices.Contains(ok, r.status) {
		r.t.Errorf("%s: status %d, want %v", what, r.status, ok)
	}
	return r
}

// must is want OK, and there is no going on without it.
func (r *reply) must(what string) *reply {
	r.t.Helper()
	if r.status != nfs3.OK {
		r.t.Fatalf("%s: status %d", what, r.status)
	}
	return r
}

// end wants all of the answer to have been read, and nothing missing.
func (r *reply) end(what string) {
	r.t.Helper()
	if !r.r.OK() || r.r.Len() != 0 {
		r.t.Errorf("%s: the answer is short, or %d bytes are left", what, r.r.Len())
	}
}

// attr reads a fattr3.
func (r *reply) attr() (a nfs3.Attr) {
	d := &r.r
	a.Type, a.Mode, a.Nlink, a.UID, a.GID = nfs3.FileType(d.Uint32()), d.Uint32(), d.Uint32(), d.Uint32(), d.Uint32()
	a.Size, a.Used, a.Major, a.Minor, a.FSID, a.FileID = d.Uint64(), d.Uint64(), d.Uint32(), d.Uint32(), d.Uint64(), d.Uint64()
	for _, t := range []*nfs3.Time{&a.Atime, &a.Mtime, &a.Ctime} {
		t.Sec, t.Nsec = d.Uint32(), d.Uint32()
	}
	return a
}

func (r *reply) post() (p nfs3.PostAttr) {
	if p.OK = r.r.Bool(); p.OK {
		p.Attr = r.attr()
	}
	return p
}

func (r *reply) wcc() (w nfs3.Wcc) {
	if w.Before.OK = r.r.Bool(); w.Before.OK {
		w.Before.Size = r.r.Uint64()
		w.Before.Mtime = nfs3.Time{Sec: r.r.Uint32(), Nsec: r.r.Uint32()}
		w.Before.Ctime = nfs3.Time{Sec: r.r.Uint32(), Nsec: r.r.Uint32()}
	}
	w.After = r.post()
	return w
}

// handle reads a handle that is given.
func (r *reply) handle() []byte {
	return bytes.Clone(r.r.Opaque(nfs3.MaxHandle))
}

// made reads the results of a call that made something.
func (r *reply) made() (n nfs3.New) {
	if r.r.Bool() {
		n.Handle = r.handle()
	}
	n.Attr = r.post()
	n.Dir = r.wcc()
	return n
}

// mountPath gives the handle of an export.
func mountPath(t *testing.T, to netip.Addr, path string) []byte {
	t.Helper()
	c := dial(t, netip.AddrPortFrom(to, 20048))
	r := c.raw(message(1, 2, mount3.Number, mount3.Version, 1, sunrpc.AuthSys, root.body(), encode(path)))
	if st := r.r.Uint32(); r.denied || r.rpc != 0 || st != 0 {
		t.Fatalf("mounting %s: RPC %d, status %d", path, r.rpc, st)
	}
	return r.handle()
}

// entries reads the entries of READDIR or READDIRPLUS.
func (r *reply) entries(plus bool) (list []nfs3.Entry, eof bool) {
	for r.r.Bool() {
		e := nfs3.Entry{FileID: r.r.Uint64(), Name: strings.Clone(r.r.String(nfs3.MaxName)), Cookie: r.r.Uint64()}
		if plus {
			e.Attr = r.post()
			if r.r.Bool() {
				e.Handle = r.handle()
			}
		}
		list = append(list, e)
	}
	return list, r.r.Bool()
}

package nfs3

import (
	"context"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// READs and WRITEs of one file that came together are done together: the file is looked
// for once, and asked for its attributes once before and once after.

// shared is how much of the arguments is the same when such calls are good: the handle.
func shared(fh []byte, good bool) int {
	if !good {
		return 0
	}
	return xdr.Size(len(fh))
}

// ServeAll implements sunrpc.Joiner.
func (p *Program) ServeAll(_ context.Context, rc *sunrpc.Call, parts []sunrpc.Part, w *xdr.Writer) bool {
	if rc.Flavor != sunrpc.AuthSys {
		return false
	}
	c := p.take(rc, w)
	ok := false
	switch rc.Procedure {
	case ProcRead:
		ok = c.readAll(parts)
	case ProcWrite:
		ok = c.writeAll(parts)
	}
	rc.Subject = c.Subject
	p.give(c)
	return ok
}

func (c *call) readAll(parts []sunrpc.Part) bool {
	var fh []byte
	size := 0
	c.pieces = c.pieces[:0]
	for i := range parts {
		c.r = parts[i].Args
		h, off, n := c.readArgs()
		if !c.r.OK() {
			return false
		}
		fh = h
		size += sunrpc.PartHeader + beforeData + pad(n)
		c.pieces = append(c.pieces, Piece{Off: off, N: n})
	}
	// All data goes where it belongs when every call succeeds; else what is behind
	// one that does not moves up.
	at := c.w.Len()
	buf := c.w.Extend(size)
	for i := range c.pieces {
		p := &c.pieces[i]
		buf = buf[sunrpc.PartHeader+beforeData:]
		p.Data, buf, p.N = buf[:p.N:p.N], buf[pad(p.N):], 0
	}
	c.post, c.spliced = PostAttr{}, 0 // nothing is: toSplice is 0
	st := checkFH(fh)
	if st == OK {
		st = c.fs.ReadAll(&c.Call, fh, c.pieces, &c.post)
	}
	c.w.Truncate(at)
	for i := range c.pieces {
		p := &c.pieces[i]
		parts[i].Begin(c.w)
		parts[i].Result = uint32(c.putRead(first(st, p.Status), p.Data, p.N, p.EOF))
	}
	return true
}

func (c *call) writeAll(parts []sunrpc.Part) bool {
	var fh []byte
	c.pieces = c.pieces[:0]
	for i := range parts {
		c.r = parts[i].Args
		h, off, data, how, ok := c.writeArgs()
		if !ok || how != Unstable {
			return false
		}
		if tooFar(off, len(data)) {
			return false
		}
		fh = h
		c.pieces = append(c.pieces, Piece{Off: off, Data: data})
	}
	c.wcc = Wcc{}
	var verf uint64
	st := checkFH(fh)
	if st == OK {
		verf = c.fs.WriteVerifier(fh) // before the data, see write
		st = c.fs.WriteAll(&c.Call, fh, c.pieces, &c.wcc)
	}
	for i := range c.pieces {
		p := &c.pieces[i]
		parts[i].Begin(c.w)
		st := c.putWrite(first(st, p.Status), p.N, Unstable, verf)
		parts[i].Result, parts[i].Forget = uint32(st), st == ErrJukebox
	}
	return true
}

func pad(n int) int { return (n + 3) &^ 3 }

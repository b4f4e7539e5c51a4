package nfsreplay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"

	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// Result is what came of a replay.
type Result struct {
	// Calls were made, Extra of them because a listing gave no handle where the
	// recorded one did.
	Calls, Extra int
	// Bytes are those of the answers.
	Bytes int64
	// Differ counts the answers of another status than the recorded one; First
	// says the first few of them.
	Differ int
	First  []string
}

// maxAnswer is more than any answer whose results are looked at.
const maxAnswer = 2 << 20

// player replays one recording on one connection.
type player struct {
	rec     *Recording
	base    uint32
	conn    net.Conn
	handles [][]byte
	cookies map[int]cookie // by call
	done    []bool
	answers chan reply
	out     xdr.Writer
	zero    []byte
	res     Result
}

type cookie struct{ cookie, verifier uint64 }

type reply struct {
	xid     uint32
	status  uint32
	results []byte // of those procedures that give handles
	size    int
	err     error
}

// A call's number is its place in the recording, below a part that differs from replay
// to replay: else a server would take it for one that is retransmitted. extra is set
// in the number of calls that are not in the recording.
const (
	extra    = 1 << 20
	maxCalls = extra
	numbers  = 2*extra - 1
)

// Replay makes the calls of a recording on an export, whose root handle is given, over
// conn: in their order, each when the answers are there that it had to wait for, and
// as many at once as were. It takes no time to think between them. It blocks until
// all are answered, conn fails or ctx ends; conn is not closed.
func (r *Recording) Replay(ctx context.Context, conn net.Conn, root []byte) (*Result, error) {
	p := &player{
		rec: r, base: rand.Uint32() &^ numbers, conn: conn, handles: make([][]byte, len(r.Nodes)), cookies: map[int]cookie{},
		done: make([]bool, len(r.Calls)), answers: make(chan reply, 256),
	}
	p.handles[0] = root
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	quit := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		p.read(quit)
	}()
	err := p.run()
	close(quit)
	if err != nil {
		conn.Close()
		<-gone
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return &p.res, nil
}

func (p *player) run() error {
	for i := range p.rec.Calls {
		c := &p.rec.Calls[i]
		for _, a := range c.Await {
			if err := p.await(a); err != nil {
				return err
			}
		}
		if err := p.send(i, c); err != nil {
			return fmt.Errorf("call %d: %w", i, err)
		}
	}
	for i := range p.rec.Calls {
		if err := p.await(i); err != nil {
			return err
		}
	}
	return nil
}

// send makes one call.
func (p *player) send(i int, c *Call) error {
	file, err := p.handle(c.File)
	if err != nil {
		return err
	}
	var second []byte
	if c.File2 >= 0 {
		if second, err = p.handle(c.File2); err != nil {
			return err
		}
	}
	w := p.begin(uint32(i), c.Proc, p.rec.Creds[c.Cred])
	w.Opaque(file)
	if c.Proc == nfs3.ProcReadDir || c.Proc == nfs3.ProcReadDirPlus {
		at := p.cookies[c.From]
		w.Uint64(at.cookie)
		w.Uint64(at.verifier)
	}
	w.Buf = append(w.Buf, c.Args...)
	if c.Proc == nfs3.ProcWrite {
		n := int(binary.BigEndian.Uint32(c.Args[8:]))
		if n > len(p.zero) {
			p.zero = make([]byte, n)
		}
		w.Opaque(p.zero[:n])
	}
	if c.File2 >= 0 {
		w.Opaque(second)
		w.Buf = append(w.Buf, c.Args2...)
	}
	return p.flush()
}

// begin writes what stands before a call's arguments.
func (p *player) begin(xid, proc uint32, c Cred) *xdr.Writer {
	w := &p.out
	w.Truncate(0)
	header(w, p.base|xid, nfs3.Number, nfs3.Version, proc, c)
	return w
}

func header(w *xdr.Writer, xid, program, version, proc uint32, c Cred) {
	for _, v := range []uint32{0, xid, 0, 2, program, version, proc, sunrpc.AuthSys} {
		w.Uint32(v)
	}
	var cred xdr.Writer
	cred.Uint32(0)
	cred.String("board")
	cred.Uint32(c.UID)
	cred.Uint32(c.GID)
	cred.Uint32(uint32(len(c.Groups)))
	for _, g := range c.Groups {
		cred.Uint32(g)
	}
	w.Opaque(cred.Buf)
	w.Uint32(sunrpc.AuthNone)
	w.Uint32(0)
}

func (p *player) flush() error {
	p.res.Calls++
	p.out.PutUint32(0, 1<<31|uint32(p.out.Len()-4))
	_, err := p.conn.Write(p.out.Buf)
	return err
}

// handle is that of a node. Where a listing did not give it, which may be in another
// order than the recorded one, it is looked up.
func (p *player) handle(n int) ([]byte, error) {
	if h := p.handles[n]; h != nil {
		return h, nil
	}
	node := p.rec.Nodes[n]
	dir, err := p.handle(node.Parent)
	if err != nil {
		return nil, err
	}
	w := p.begin(extra|uint32(n), nfs3.ProcLookup, Cred{})
	w.Opaque(dir)
	w.String(node.Name)
	if err := p.flush(); err != nil {
		return nil, err
	}
	p.res.Extra++
	for p.handles[n] == nil {
		if err := p.take(); err != nil {
			return nil, fmt.Errorf("looking up %q: %w", node.Name, err)
		}
	}
	return p.handles[n], nil
}

// await waits for the answer to a call.
func (p *player) await(i int) error {
	for !p.done[i] {
		if err := p.take(); err != nil {
			return err
		}
	}
	return nil
}

// take takes the next answer.
func (p *player) take() error {
	a := <-p.answers
	if a.err != nil {
		return a.err
	}
	p.res.Bytes += int64(a.size)
	d := xdr.NewReader(a.results)
	if a.xid&extra != 0 {
		n := int(a.xid &^ extra)
		if a.status != 0 || n >= len(p.handles) {
			return fmt.Errorf("status %d", a.status)
		}
		p.handles[n] = bytes.Clone(d.Opaque(nfs3.MaxHandle))
		return nil
	}
	i := int(a.xid)
	if i >= len(p.done) || p.done[i] {
		return errors.New("an answer to a call that nobody made")
	}
	p.done[i] = true
	c := &p.rec.Calls[i]
	if a.status != c.Status {
		p.differs(i, c, a.status)
	}
	if a.status != 0 {
		return nil
	}
	verf := verifier(d)
	found := results(c.Proc, c.Args, &d)
	if !d.OK() {
		return fmt.Errorf("the answer to call %d is none", i)
	}
	switch c.Proc {
	case nfs3.ProcReadDir, nfs3.ProcReadDirPlus:
		at := p.cookies[c.From]
		for _, e := range found {
			at = cookie{e.cookie, verf}
			for _, n := range c.Made {
				if e.handle != nil && p.rec.Nodes[n].Name == string(e.name) {
					p.handles[n] = bytes.Clone(e.handle)
				}
			}
		}
		p.cookies[i] = at
	default:
		if len(found) == 1 && len(c.Made) == 1 {
			p.handles[c.Made[0]] = bytes.Clone(found[0].handle)
		}
	}
	return nil
}

func (p *player) differs(i int, c *Call, status uint32) {
	if p.res.Differ++; len(p.res.First) < 5 {
		p.res.First = append(p.res.First, fmt.Sprintf("call %d (procedure %d on %q, arguments %q): status %d, recorded %d",
			i, c.Proc, p.path(c.File), c.Args[:min(len(c.Args), 40)], status, c.Status))
	}
}

// path is where a node was when it was first seen.
func (p *player) path(n int) string {
	var names []string
	for ; n > 0 && len(names) < 64; n = p.rec.Nodes[n].Parent {
		names = append([]string{p.rec.Nodes[n].Name}, names...)
	}
	return "/" + strings.Join(names, "/")
}

// read receives answers until the connection ends.
func (p *player) read(quit <-chan struct{}) {
	b := bufio.NewReaderSize(p.conn, 64<<10)
	for left := len(p.rec.Calls); left > 0; {
		a := p.readOne(b)
		if a.err == nil && a.xid&extra == 0 {
			left--
		}
		select {
		case p.answers <- a:
		case <-quit:
			return
		}
		if a.err != nil {
			return
		}
	}
}

// answerHead is what stands before the results: mark, xid, REPLY, accepted, an empty
// verifier, the status of RPC, and then that of NFS.
const answerHead = 4 + 24 + 4

func (p *player) readOne(b *bufio.Reader) (a reply) {
	head, err := b.Peek(answerHead)
	if err != nil {
		return reply{err: fmt.Errorf("receiving: %w", err)}
	}
	be := binary.BigEndian
	m := be.Uint32(head)
	size := int(m&^(1<<31)) + 4
	a = reply{xid: be.Uint32(head[4:]) & numbers, status: be.Uint32(head[28:]), size: size}
	if m>>31 == 0 || size < answerHead || be.Uint32(head[12:]) != 0 || be.Uint32(head[20:]) != 0 || be.Uint32(head[24:]) != 0 {
		return reply{err: errors.New("the server did not accept a call, or answers in fragments")}
	}
	rest := size - answerHead
	_, _ = b.Discard(answerHead) // it was peeked
	if !p.keeps(a.xid) {
		_, a.err = b.Discard(rest)
		return a
	}
	if rest > maxAnswer {
		return reply{err: fmt.Errorf("an answer of %d bytes", size)}
	}
	a.results = make([]byte, rest)
	_, a.err = io.ReadFull(b, a.results)
	return a
}

// keeps says whether the results of a call are looked at.
func (p *player) keeps(xid uint32) bool {
	if xid&extra != 0 {
		return true
	}
	if int(xid) >= len(p.rec.Calls) {
		return false
	}
	switch p.rec.Calls[xid].Proc {
	case nfs3.ProcLookup, nfs3.ProcCreate, nfs3.ProcMkdir, nfs3.ProcSymlink, nfs3.ProcMknod, nfs3.ProcReadDir, nfs3.ProcReadDirPlus:
		return true
	}
	return false
}

// Mount asks the MOUNT program at the other end of conn for the root handle of a path.
func Mount(conn net.Conn, path string) ([]byte, error) {
	var w xdr.Writer
	header(&w, 1, mount3.Number, mount3.Version, 1, Cred{})
	w.String(path)
	w.PutUint32(0, 1<<31|uint32(w.Len()-4))
	if _, err := conn.Write(w.Buf); err != nil {
		return nil, fmt.Errorf("mounting %q: %w", path, err)
	}
	var p player
	p.rec = &Recording{Calls: make([]Call, 2)}
	p.rec.Calls[1].Proc = nfs3.ProcLookup // its results are kept
	a := p.readOne(bufio.NewReader(conn))
	if a.err != nil {
		return nil, fmt.Errorf("mounting %q: %w", path, a.err)
	}
	d := xdr.NewReader(a.results)
	h := d.Opaque(nfs3.MaxHandle)
	if a.status != 0 || !d.OK() {
		return nil, fmt.Errorf("mounting %q: status %d", path, a.status)
	}
	return h, nil
}

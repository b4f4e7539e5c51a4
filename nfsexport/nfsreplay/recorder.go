package nfsreplay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// Recorder makes a Recording of the packets between one client and its server. The
// client's first handle must be that of its root.
type Recorder struct {
	// Port is the server's; 0: 2049.
	Port uint16

	packets int
	conns   map[netip.AddrPort]*connection
	order   []*connection
	calls   []*heard
	nodes   map[string]int // by handle
	files   []Node
	creds   []Cred
	cookies map[place]int // the call whose answer gave a cookie
	err     error
}

// place is a cookie in a directory.
type place struct {
	dir    int
	cookie uint64
}

// connection is one that the client made.
type connection struct {
	up, down stream
	byXID    map[uint32]int // calls without an answer
	answers  []answer
	taken    int // answers that are awaited already
}

// answer says which call was answered, up to where in the stream, and by which packet.
type answer struct {
	call   int
	end    uint32
	packet int
}

// heard is a call, and when it was made: the packet, and what of the answers the
// client had acknowledged.
type heard struct {
	Call
	conn     *connection
	packet   int
	ack      uint32
	answered bool
}

// Frame takes the next Ethernet frame. What is neither from nor to the server's port
// is passed over.
func (r *Recorder) Frame(frame []byte) error {
	s, ok := parse(frame)
	if !ok || r.err != nil {
		return r.err
	}
	if r.conns == nil {
		r.conns, r.nodes, r.cookies = map[netip.AddrPort]*connection{}, map[string]int{}, map[place]int{}
	}
	port := r.Port
	if port == 0 {
		port = 2049
	}
	r.packets++
	switch port {
	case s.to.Port():
		c := r.conns[s.from]
		if c == nil || s.syn {
			if c != nil && len(c.byXID) == 0 && c.up.next == s.seq+1 && len(c.answers) == 0 {
				return nil // the same SYN again
			}
			c = &connection{byXID: map[uint32]int{}}
			r.conns[s.from] = c
			r.order = append(r.order, c)
		}
		c.up.add(s)
		for r.err == nil {
			b, _, _, ack, ok := c.up.record()
			if !ok {
				break
			}
			r.err = r.call(c, b, ack)
		}
	case s.from.Port():
		c := r.conns[s.to]
		if c == nil {
			return nil
		}
		c.down.add(s)
		for r.err == nil {
			b, _, end, _, ok := c.down.record()
			if !ok {
				break
			}
			r.err = r.answer(c, b, end)
		}
	}
	return r.err
}

// call takes one call.
func (r *Recorder) call(c *connection, b []byte, ack uint32) error {
	d := xdr.NewReader(b)
	xid, kind := d.Uint32(), d.Uint32()
	rpc, program, version, proc := d.Uint32(), d.Uint32(), d.Uint32(), d.Uint32()
	flavor, cred := d.Uint32(), d.Opaque(400)
	d.Uint32()
	d.Opaque(400)
	if !d.OK() || kind != 0 || rpc != 2 {
		return errors.New("a record that is no call")
	}
	if program != nfs3.Number || version != nfs3.Version || proc == nfs3.ProcNull || proc >= nfs3.Procs {
		return nil
	}
	if _, again := c.byXID[xid]; again {
		return nil // retransmitted
	}
	h := &heard{conn: c, packet: r.packets, ack: ack}
	h.Call = Call{Proc: proc, Cred: r.cred(flavor, cred), File: r.node(d.Opaque(nfs3.MaxHandle)), File2: -1, From: -1}
	if err := r.arguments(&h.Call, &d); err != nil {
		return err
	}
	if !d.OK() || h.File < 0 || h.File2 < -1 {
		return fmt.Errorf("call %d, procedure %d: a handle that no answer gave, or bad arguments", len(r.calls), proc)
	}
	c.byXID[xid] = len(r.calls)
	r.calls = append(r.calls, h)
	return nil
}

// arguments takes what follows the first handle.
func (r *Recorder) arguments(c *Call, d *xdr.Reader) error {
	rest := func() []byte { return slices.Clone(d.Rest()) }
	switch c.Proc {
	case nfs3.ProcWrite:
		c.Args = slices.Clone(d.Fixed(writeArgs))
	case nfs3.ProcReadDir, nfs3.ProcReadDirPlus:
		if cookie := d.Uint64(); cookie != 0 {
			from, ok := r.cookies[place{c.File, cookie}]
			if !ok {
				return fmt.Errorf("call %d: a cookie that no answer gave", len(r.calls))
			}
			c.From = from
		}
		d.Uint64()
		c.Args = rest()
	case nfs3.ProcRename:
		name := *d
		d.Opaque(nfs3.MaxName)
		c.Args = slices.Clone(name.Rest()[:name.Len()-d.Len()])
		c.File2 = r.second(d)
		c.Args2 = rest()
	case nfs3.ProcLink:
		c.File2 = r.second(d)
		c.Args2 = rest()
	default:
		c.Args = rest()
	}
	return nil
}

// second is the node of a second handle; -2: nobody gave it.
func (r *Recorder) second(d *xdr.Reader) int {
	if n := r.node(d.Opaque(nfs3.MaxHandle)); n >= 0 {
		return n
	}
	return -2
}

// node is the number of a handle; -1: no answer gave it. The first one is the root's.
func (r *Recorder) node(handle []byte) int {
	if len(r.files) == 0 {
		r.files = append(r.files, Node{Parent: -1})
		r.nodes[string(handle)] = 0
	}
	if n, ok := r.nodes[string(handle)]; ok {
		return n
	}
	return -1
}

// cred is the number of a credential. What is not AUTH_SYS counts as nobody's.
func (r *Recorder) cred(flavor uint32, body []byte) int {
	c := Cred{UID: 65534, GID: 65534}
	if flavor == sunrpc.AuthSys {
		d := xdr.NewReader(body)
		d.Uint32()
		d.Opaque(255)
		c.UID, c.GID = d.Uint32(), d.Uint32()
		for range min(d.Uint32(), 16) {
			c.Groups = append(c.Groups, d.Uint32())
		}
	}
	i := slices.IndexFunc(r.creds, func(o Cred) bool {
		return o.UID == c.UID && o.GID == c.GID && slices.Equal(o.Groups, c.Groups)
	})
	if i < 0 {
		i = len(r.creds)
		r.creds = append(r.creds, c)
	}
	return i
}

// answer takes one answer.
func (r *Recorder) answer(c *connection, b []byte, end uint32) error {
	d := xdr.NewReader(b)
	xid, _, accepted := d.Uint32(), d.Uint32(), d.Uint32()
	d.Uint32()
	d.Opaque(400)
	n, ok := c.byXID[xid]
	if !ok {
		return nil // of NULL
	}
	delete(c.byXID, xid)
	if status := d.Uint32(); !d.OK() || accepted != 0 || status != 0 {
		return fmt.Errorf("call %d was not accepted", n)
	}
	h := r.calls[n]
	h.answered, h.Status = true, d.Uint32()
	c.answers = append(c.answers, answer{n, end, r.packets})
	if h.Status != 0 {
		return nil
	}
	for _, e := range results(h.Proc, h.Args, &d) {
		if e.handle != nil {
			r.learn(&h.Call, e)
		}
		if e.cookie != 0 {
			r.cookies[place{h.File, e.cookie}] = n
		}
	}
	if !d.OK() {
		return fmt.Errorf("the answer to call %d is none", n)
	}
	return nil
}

// learn notes the handle of a file.
func (r *Recorder) learn(c *Call, e entry) {
	n, ok := r.nodes[string(e.handle)]
	if !ok {
		n = len(r.files)
		r.nodes[string(e.handle)] = n
		r.files = append(r.files, Node{c.File, string(e.name)})
	} else if c.Proc == nfs3.ProcReadDirPlus {
		return // known by another name already
	}
	c.Made = append(c.Made, n)
}

// Recording is what was recorded. Calls that nobody answered are left out.
func (r *Recorder) Recording() (*Recording, error) {
	if r.err != nil {
		return nil, r.err
	}
	if len(r.files) == 0 {
		return nil, fmt.Errorf("%w: it has no NFS call", errRecording)
	}
	out := &Recording{Creds: r.creds}
	used, files := r.used()
	out.Nodes = files
	number := map[int]int{-1: -1} // of calls
	for i, h := range r.calls {
		if !h.answered {
			continue
		}
		c := h.Call
		c.Await = r.awaited(h, number)
		c.File, c.From = used[c.File], number[c.From]
		if c.File2 >= 0 {
			c.File2 = used[c.File2]
		}
		c.Made = nil
		for _, m := range h.Made {
			if n, ok := used[m]; ok {
				c.Made = append(c.Made, n)
			}
		}
		number[i] = len(out.Calls)
		out.Calls = append(out.Calls, c)
	}
	return out, out.check()
}

// awaited are the calls whose answers came since the call before.
func (r *Recorder) awaited(h *heard, number map[int]int) (await []int) {
	for _, c := range r.order {
		for ; c.taken < len(c.answers); c.taken++ {
			a := c.answers[c.taken]
			if c == h.conn && int32(h.ack-c.down.first-a.end) < 0 || c != h.conn && a.packet > h.packet {
				break
			}
			await = append(await, number[a.call])
		}
	}
	return await
}

// used numbers the nodes that calls name, and those above them, anew.
func (r *Recorder) used() (map[int]int, []Node) {
	want := map[int]bool{0: true}
	var need func(n int)
	need = func(n int) {
		if n >= 0 && !want[n] {
			want[n] = true
			need(r.files[n].Parent)
		}
	}
	for _, h := range r.calls {
		need(h.File)
		need(h.File2)
	}
	number, files := map[int]int{}, []Node{}
	for n, f := range r.files {
		if want[n] {
			number[n] = len(files)
			files = append(files, f)
		}
	}
	for i := range files[1:] {
		files[i+1].Parent = number[files[i+1].Parent]
	}
	return number, files
}

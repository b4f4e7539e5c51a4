package unfsd_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rubus/nfsexport/nfs3"
)

// noiseCalls are the calls that TestHostileNoise makes in a usual run; with
// RUBUS_LONG there are twenty times as many.
const noiseCalls = 200_000

// generator makes calls that are mostly good, and then lies a little: a call
// that is all noise gets no further than the decoder.
type generator struct {
	root, foreign []byte

	mu      sync.Mutex
	handles [][]byte // guarded by mu; learned from replies, a ring
	next    int
}

// learn keeps a handle for later calls.
func (g *generator) learn(h []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.handles) < 256 {
		g.handles = append(g.handles, bytes.Clone(h))
		return
	}
	g.handles[g.next%256] = bytes.Clone(h)
	g.next++
}

// handle is the root's, one that was learned, a foreign one, or a lie.
func (g *generator) handle(r *rand.Rand) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.root
	if len(g.handles) > 0 && r.IntN(3) > 0 {
		h = g.handles[r.IntN(len(g.handles))]
	}
	switch r.IntN(40) {
	case 0:
		return g.foreign
	case 1:
		return flipped(h, r.IntN(len(h)*8))
	case 2:
		return h[:r.IntN(len(h))]
	case 3:
		return append(bytes.Clone(h), make([]byte, r.IntN(40))...)
	}
	return h
}

func (g *generator) name(r *rand.Rand) string {
	switch r.IntN(24) {
	case 0:
		return ""
	case 1:
		return []string{".", "..", "/", "../secret", "a/b", "a\x00b", "fifo", "zero", "out", "dir"}[r.IntN(10)]
	case 2:
		return string(bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(300)))
	}
	return fmt.Sprintf("n%d", r.IntN(100))
}

// number is one at which something ends.
func (g *generator) number(r *rand.Rand) uint64 {
	edges := []uint64{0, 1, 4095, 4096, 65536, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, math.MaxInt64, 1 << 63, math.MaxUint64}
	n := edges[r.IntN(len(edges))]
	if r.IntN(2) == 0 {
		n = uint64(r.IntN(10000))
	}
	return n + uint64(r.IntN(3)) - 1
}

// sattr is any sattr3.
func (g *generator) sattr(r *rand.Rand) verbatim {
	var parts []any
	for i := range 4 {
		if r.IntN(2) == 0 {
			parts = append(parts, 0)
			continue
		}
		parts = append(parts, 1)
		if i == 3 {
			parts = append(parts, g.number(r)%(1<<32))
		} else {
			parts = append(parts, int(g.number(r)))
		}
	}
	for range 2 {
		how := r.IntN(3)
		if parts = append(parts, how); how == 2 {
			parts = append(parts, int(g.number(r)), int(g.number(r)))
		}
	}
	return verbatim(args(parts...))
}

// arguments are those of a procedure, by its grammar (RFC 1813 section 3.3).
func (g *generator) arguments(r *rand.Rand, proc uint32) []byte {
	h, name, n := g.handle(r), g.name(r), func() int { return int(uint32(g.number(r))) }
	switch proc {
	case nfs3.ProcSetAttr:
		return args(h, g.sattr(r), r.IntN(2), n(), n())
	case nfs3.ProcLookup, nfs3.ProcRemove, nfs3.ProcRmdir:
		return args(h, name)
	case nfs3.ProcAccess:
		return args(h, n())
	case nfs3.ProcRead, nfs3.ProcCommit:
		return args(h, g.number(r), n())
	case nfs3.ProcWrite:
		data := bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(3000))
		return args(h, g.number(r)%(1<<34), len(data), r.IntN(4), data)
	case nfs3.ProcCreate:
		if how := r.IntN(4); how == 2 {
			return args(h, name, how, g.number(r))
		}
		return args(h, name, r.IntN(2), g.sattr(r))
	case nfs3.ProcMkdir:
		return args(h, name, g.sattr(r))
	case nfs3.ProcSymlink:
		return args(h, name, g.sattr(r), g.name(r))
	case nfs3.ProcMknod:
		return args(h, name, r.IntN(9), g.sattr(r), n(), n())
	case nfs3.ProcRename:
		return args(h, name, g.handle(r), g.name(r))
	case nfs3.ProcLink:
		return args(h, g.handle(r), name)
	case nfs3.ProcReadDir:
		return args(h, g.number(r), g.number(r)%2, n())
	case nfs3.ProcReadDirPlus:
		return args(h, g.number(r), g.number(r)%2, n(), n())
	}
	return args(h)
}

// message is one call, with a lie in one of eight.
func (g *generator) message(r *rand.Rand, xid uint32) (proc uint32, m []byte) {
	proc = uint32(r.IntN(nfs3.Procs))
	who := cred{uid: uint32(r.IntN(2)) * 1000, gid: uint32(r.IntN(2)) * 1000}
	m = message(xid, nfs3.Number, nfs3.Version, proc, who, g.arguments(r, proc))
	if r.IntN(8) > 0 {
		return proc, m
	}
	proc = math.MaxUint32 // whatever comes back is not believed
	const xidLen = 4
	switch r.IntN(4) {
	case 0:
		m = m[:xidLen+r.IntN(len(m)-xidLen)]
	case 1:
		at := xidLen + r.IntN(len(m)-xidLen)
		m[at] ^= 1 << r.IntN(8)
	case 2:
		at := (xidLen + r.IntN(len(m)-xidLen)) &^ 3
		binary.BigEndian.PutUint32(m[at:], uint32(g.number(r)))
	case 3:
		m = append(m, make([]byte, r.IntN(100))...)
	}
	return proc, m
}

// noisy makes one connection's share of the calls, many in flight at once. After
// each batch a good call must be answered, on this connection or, when the
// server has had enough of it, on a new one.
func (g *generator) noisy(x *arena, r *rand.Rand, calls int) error {
	const batch = 64
	c, err := dial(x.a.Client, 2049, true)
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	for done := 0; done < calls; done += batch {
		procs := map[uint32]uint32{}
		var out []byte
		for range batch {
			c.xid++
			proc, m := g.message(r, c.xid)
			procs[c.xid] = proc
			out = append(out, record(m)...)
		}
		c.xid++
		canary := c.xid
		out = append(out, record(message(canary, nfs3.Number, nfs3.Version, nfs3.ProcGetAttr, cred{}, args(g.root)))...)
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		sent := make(chan error, 1)
		go func() { _, err := c.Write(out); sent <- err }()
		alive, err := g.answers(c, procs, canary)
		if err != nil {
			return err
		}
		c.SetDeadline(time.Now()) //nolint:errcheck // ends the writer if it still writes
		<-sent
		if !alive {
			c.Close()
			if c, err = dial(x.a.Client, 2049, true); err != nil {
				return err
			}
			if st, _, err := c.nfs(nfs3.ProcGetAttr, args(g.root)); err != nil || st != nfs3.OK {
				return fmt.Errorf("a good call on a new connection: %v, %w", st, err)
			}
		}
	}
	return nil
}

// answers reads replies up to the canary's; alive is false when the server
// closed the connection before.
func (g *generator) answers(c *raw, procs map[uint32]uint32, canary uint32) (alive bool, err error) {
	for {
		b, err := c.reply()
		if err != nil {
			if os.IsTimeout(err) {
				return false, fmt.Errorf("a good call is not answered: %w", err)
			}
			return false, nil
		}
		for _, secret := range []string{hostSecret, otherSecret} {
			if bytes.Contains(b, []byte(secret)) {
				return false, fmt.Errorf("%s comes out", secret)
			}
		}
		if len(b) < 4 {
			return false, fmt.Errorf("a reply of %d bytes", len(b))
		}
		xid := binary.BigEndian.Uint32(b)
		rest, err := results(b, xid)
		if err != nil {
			continue // rejected: as it may be
		}
		st := nfs3.Status(rest.Uint32())
		if xid == canary {
			if st != nfs3.OK {
				return false, fmt.Errorf("a good call is answered %v", st)
			}
			return true, nil
		}
		if st != nfs3.OK {
			continue
		}
		switch procs[xid] {
		case nfs3.ProcLookup:
			g.learn(rest.Opaque(64))
		case nfs3.ProcCreate, nfs3.ProcMkdir, nfs3.ProcSymlink, nfs3.ProcMknod:
			if rest.Bool() {
				g.learn(rest.Opaque(64))
			}
		}
	}
}

// TestHostileNoise: some hundred thousand calls of a board's root user, most of
// them nearly good, on several connections at once. The server lives, answers
// good calls meanwhile, lets no secret out, and B notices nothing.
func TestHostileNoise(t *testing.T) {
	calls := noiseCalls
	if os.Getenv("RUBUS_LONG") != "" {
		calls *= 20
	}
	x := newArena(t, "/proc/self/exe")
	before := tree(t, x.b.Dir)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := &generator{root: x.rootA, foreign: x.rootB}
	for _, h := range x.files {
		g.learn(h)
	}
	stop, good := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := goodClient(x.b, stop, new(atomic.Int64))
		good <- err
	}()
	const conns = 4
	errs := make(chan error, conns)
	for i := range conns {
		go func() { errs <- g.noisy(x, rand.New(rand.NewPCG(seed, uint64(i))), calls/conns) }()
	}
	for range conns {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-good; err != nil {
		t.Error(err)
	}
	// goodClient writes to its own files, and makes and removes others.
	after := tree(t, x.b.Dir)
	for name := range before {
		if after[name] == "" {
			t.Errorf("B's %s is gone", name)
		}
	}
	if after["/secret"] != before["/secret"] || len(after) > len(before)+1 {
		t.Errorf("B had %d files and has %d", len(before), len(after))
	}
	t.Logf("%d calls: %d files open, %d MiB, %d threads", calls, x.server.files(), x.figure("VmHWM")>>10, x.figure("Threads"))
	if n := x.figure("Threads"); n > 700 {
		t.Errorf("the server has %d threads", n)
	}
}

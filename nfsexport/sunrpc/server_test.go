package sunrpc

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/nfsexport/xdr"
)

const ok, denied = replyAccepted, replyDenied

// authMessage is a call of procWeak with any credential and verifier.
func authMessage(xid, flavor uint32, cred []byte, verfFlavor uint32, verf []byte) []byte {
	var w xdr.Writer
	for _, v := range []uint32{xid, msgCall, rpcVersion, testNumber, 3, procWeak, flavor} {
		w.Uint32(v)
	}
	w.Opaque(cred)
	w.Uint32(verfFlavor)
	w.Opaque(verf)
	return w.Buf
}

// sysCred is a body of AUTH_SYS.
func sysCred(machine string, uid, gid uint32, groups ...uint32) []byte {
	var w xdr.Writer
	w.Uint32(0x5eed)
	w.String(machine)
	w.Uint32(uid)
	w.Uint32(gid)
	w.Uint32(uint32(len(groups)))
	for _, g := range groups {
		w.Uint32(g)
	}
	return w.Buf
}

func TestReplies(t *testing.T) {
	_, addr := start(t, Config{Programs: []Program{newFake()}})
	sixteen := make([]uint32, MaxGroups)
	wrongVersion := message(9, procNull)
	binary.BigEndian.PutUint32(wrongVersion[8:], 3)
	for _, tc := range []struct {
		name string
		msg  []byte
		want []uint32
	}{
		{"null", message(1, procNull), []uint32{1, 1, ok, 0, 0, 0}},
		{"echo", message(2, procEcho, 5, 6), []uint32{2, 1, ok, 0, 0, 0, 5, 6}},
		{"older version", messageTo(2, testNumber, 2, procNull), []uint32{2, 1, ok, 0, 0, 0}},
		{"program", messageTo(3, 100227, 3, 0), []uint32{3, 1, ok, 0, 0, uint32(ProgUnavail)}},
		{"version too low", messageTo(4, testNumber, 1, 0), []uint32{4, 1, ok, 0, 0, uint32(ProgMismatch), 2, 3}},
		{"version too high", messageTo(4, testNumber, 4, 0), []uint32{4, 1, ok, 0, 0, uint32(ProgMismatch), 2, 3}},
		{"procedure", message(5, testProcs), []uint32{5, 1, ok, 0, 0, uint32(ProcUnavail)}},
		{"garbage", message(6, procGarbage), []uint32{6, 1, ok, 0, 0, uint32(GarbageArgs)}},
		{"panic", message(7, procPanic), []uint32{7, 1, ok, 0, 0, uint32(SystemErr)}},
		{"RPC version", wrongVersion, []uint32{9, 1, denied, rejectRPCMismatch, 2, 2}},
		{"AUTH_NONE where AUTH_SYS is due", message(10, procWeak), []uint32{10, 1, denied, rejectAuthError, authTooWeak}},
		{
			"AUTH_SYS", authMessage(11, AuthSys, sysCred("board", 7, 8, 1, 2), 0, nil),
			[]uint32{11, 1, ok, 0, 0, 0, 7, 8, 2, 1, 2},
		},
		{
			"16 groups", authMessage(12, AuthSys, sysCred("", 7, 8, sixteen...), 0, nil),
			append([]uint32{12, 1, ok, 0, 0, 0, 7, 8, 16}, sixteen...),
		},
		{
			"17 groups", authMessage(13, AuthSys, sysCred("", 7, 8, append(sixteen, 1)...), 0, nil),
			[]uint32{13, 1, denied, rejectAuthError, authBadCred},
		},
		{
			"machine name too long", authMessage(13, AuthSys, sysCred(strings.Repeat("m", 256), 7, 8), 0, nil),
			[]uint32{13, 1, denied, rejectAuthError, authBadCred},
		},
		{"AUTH_SYS cut off", authMessage(14, AuthSys, sysCred("", 7, 8)[:12], 0, nil), []uint32{14, 1, denied, rejectAuthError, authBadCred}},
		{"AUTH_NONE with a body", authMessage(15, AuthNone, []byte{1}, 0, nil), []uint32{15, 1, denied, rejectAuthError, authBadCred}},
		{"AUTH_SHORT", authMessage(16, 2, nil, 0, nil), []uint32{16, 1, denied, rejectAuthError, authBadCred}},
		{"RPCSEC_GSS", authMessage(17, 6, make([]byte, 20), 0, nil), []uint32{17, 1, denied, rejectAuthError, authBadCred}},
		{"credential of 404 bytes", authMessage(18, AuthSys, make([]byte, 404), 0, nil), []uint32{18, 1, denied, rejectAuthError, authBadCred}},
		{"verifier flavor", authMessage(19, AuthSys, sysCred("", 7, 8), 6, nil), []uint32{19, 1, denied, rejectAuthError, authBadVerf}},
		{"verifier body", authMessage(20, AuthSys, sysCred("", 7, 8), 0, []byte{1}), []uint32{20, 1, denied, rejectAuthError, authBadVerf}},
	} {
		t.Run("tcp/"+tc.name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(framed(tc.msg)...)
			words(t, c.reply(), tc.want...)
			c.send(framed(message(99, procNull))...)
			words(t, c.reply(), 99, 1, ok, 0, 0, 0)
		})
		t.Run("udp/"+tc.name, func(t *testing.T) {
			nc, err := net.Dial("udp4", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := nc.Write(tc.msg); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 2000)
			n, err := nc.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			words(t, xdr.NewReader(b[:n]), tc.want...)
		})
	}
}

func TestNotCalls(t *testing.T) {
	_, addr := start(t, Config{Programs: []Program{newFake()}})
	reply := message(1, procNull)
	binary.BigEndian.PutUint32(reply[4:], msgReply)
	for _, tc := range []struct {
		name string
		raw  []byte
	}{
		{"empty record", framed(nil)},
		{"half a header", framed(message(1, procNull)[:30])},
		{"a reply", framed(reply)},
		{"record too long", []byte{0xff, 0xff, 0xff, 0xff}},
		{"fragment too long", []byte{0x7f, 0xff, 0xff, 0xff}},
		{"empty fragment", []byte{0, 0, 0, 0}},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(tc.raw...)
			c.wantClosed()
		})
	}
}

// TestPipeline sends many calls in one write and takes the replies together.
func TestPipeline(t *testing.T) {
	_, addr := start(t, Config{Programs: []Program{newFake()}})
	c := dial(t, addr)
	var all []byte
	const n = 5000
	for i := range uint32(n) {
		all = append(all, framed(message(i, procEcho, i))...)
	}
	go func() { _, _ = c.nc.Write(all) }()
	for i := range uint32(n) {
		words(t, c.reply(), i, 1, ok, 0, 0, 0, i)
	}
}

// TestFragments sends one call in fragments of every size.
func TestFragments(t *testing.T) {
	_, addr := start(t, Config{Programs: []Program{newFake()}})
	c := dial(t, addr)
	args := make([]uint32, 500)
	for i := range args {
		args[i] = uint32(i)
	}
	msg := message(1, procEcho, args...)
	for _, size := range []int{1, 2, 3, 4, 5, 100, 2000, len(msg)} {
		c.send(fragments(msg, size)...)
		words(t, c.reply(), append([]uint32{1, 1, ok, 0, 0, 0}, args...)...)
	}
}

// fragments frames msg in fragments of size bytes.
func fragments(msg []byte, size int) (b []byte) {
	for len(msg) > 0 {
		n := min(size, len(msg))
		mark := uint32(n)
		if n == len(msg) {
			mark |= lastFragment
		}
		b = append(binary.BigEndian.AppendUint32(b, mark), msg[:n]...)
		msg = msg[n:]
	}
	return b
}

// TestSlowCall shows that a slow call holds up nobody on its connection.
func TestSlowCall(t *testing.T) {
	f := newFake()
	_, addr := start(t, Config{Programs: []Program{f}})
	c := dial(t, addr)
	c.send(framed(message(1, procSlow))...)
	c.send(framed(message(2, procNull))...)
	words(t, c.reply(), 2, 1, ok, 0, 0, 0)
	close(f.release)
	words(t, c.reply(), 1, 1, ok, 0, 0, 0, 7)
}

// TestWaits: a call that says that it will wait lets others go on at once, without
// the watch; and what was answered before it does not stay behind.
func TestWaits(t *testing.T) {
	f := newFake()
	s, addr := start(t, Config{Programs: []Program{f}})
	s.watch.mu.Lock()
	s.watch.every = time.Hour
	s.watch.mu.Unlock()
	c := dial(t, addr)
	c.send(bytes.Join([][]byte{
		framed(message(1, procNull)), framed(message(2, procWaits)), framed(message(3, procEcho, 8)),
		framed(message(4, procWaits)), framed(message(5, procBig, 4)),
	}, nil)...)
	words(t, c.reply(), 1, 1, ok, 0, 0, 0)
	words(t, c.reply(), 3, 1, ok, 0, 0, 0, 8)
	if r := c.reply(); r.Uint32() != 5 {
		t.Error("a long call stands behind one that waits")
	}
	close(f.release)
	both := map[uint32]bool{}
	for range 2 {
		r := c.reply()
		both[r.Uint32()] = true
	}
	if !both[2] || !both[4] {
		t.Errorf("answered after the wait: %v", both)
	}
}

// TestRelay: however often the reading of a connection is handed over, each call
// is answered, once.
func TestRelay(t *testing.T) {
	f := newFake()
	_, addr := start(t, Config{Programs: []Program{f}})
	const conns, calls = 4, 400
	kinds := []uint32{procNull, procWaits, procEcho, procSlow, procOnce, procBig}
	release := make(chan struct{})
	go func() { // lets the slow ones go, some at a time
		for {
			select {
			case <-release:
				return
			case f.release <- struct{}{}:
			}
		}
	}()
	defer close(release)
	var all sync.WaitGroup
	for range conns {
		c := dial(t, addr)
		all.Go(func() {
			var batch []byte
			for xid := range uint32(calls) {
				batch = append(batch, framed(message(xid, kinds[int(xid)%len(kinds)], 4096))...)
			}
			go c.nc.Write(batch)
			seen := map[uint32]int{}
			for range calls {
				b, err := c.tryReply()
				if err != nil {
					t.Error(err)
					return
				}
				r := xdr.NewReader(b)
				seen[r.Uint32()]++
			}
			for xid := range uint32(calls) {
				if seen[xid] != 1 {
					t.Errorf("call %d was answered %d times", xid, seen[xid])
				}
			}
		})
	}
	all.Wait()
}

func TestBigRecords(t *testing.T) {
	_, addr := start(t, Config{Programs: []Program{newFake()}})
	c := dial(t, addr)
	for _, size := range []int{4, 16 << 10, 70 << 10, 1 << 20} {
		args := make([]uint32, size/4)
		args[len(args)-1] = 0xabcd
		c.send(framed(message(1, procEcho, args...))...)
		r := c.reply()
		if r.Len() != 24+size || !bytes.HasSuffix(r.Rest(), []byte{0xab, 0xcd}) {
			t.Errorf("echo of %d bytes: %d bytes", size, r.Len())
		}
		c.send(framed(message(2, procBig, uint32(size)))...)
		if r := c.reply(); r.Len() != 24+size {
			t.Errorf("reply of %d bytes: %d bytes", size, r.Len())
		}
	}
}

func TestPanicIsLogged(t *testing.T) {
	lines := make(logLines, 9)
	_, addr := start(t, Config{Programs: []Program{newFake()}, Log: slog.New(slog.NewTextHandler(lines, nil))})
	c := dial(t, addr)
	c.send(framed(message(1, procPanic))...)
	words(t, c.reply(), 1, 1, ok, 0, 0, uint32(SystemErr))
	if s := <-lines; strings.Count(s, "\n") != 1 || !strings.Contains(s, "helper_test.go") || len(lines) != 0 {
		t.Errorf("want one line with the stack, got %q and %d more", s, len(lines))
	}
}

// logLines passes on what is written.
type logLines chan string

func (c logLines) Write(b []byte) (int, error) {
	c <- string(b)
	return len(b), nil
}

func TestObserve(t *testing.T) {
	events := make(chan Event, 9)
	_, addr := start(t, Config{Programs: []Program{newFake()}, Observe: func(e Event) { events <- e }})
	c := dial(t, addr)
	c.send(framed(message(1, procEcho, 1))...)
	c.send(framed(messageTo(1, 5, 6, 7))...)
	e := <-events
	if e.Program != testNumber || e.Procedure != procEcho || e.Status != Success || e.In != 4 || e.Out != 28 || !e.Peer.IsValid() {
		t.Errorf("got %+v", e)
	}
	if e := <-events; e.Program != 5 || e.Status != ProgUnavail {
		t.Errorf("got %+v", e)
	}
}

package sunrpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/xdr"
)

// ledger is a Program that counts the calls it does, and answers how many these were. Its
// arguments are words: how it is planned, how it ends, and more that it does not look at.
type ledger struct {
	*fake
	mu   sync.Mutex
	done uint32
	all  int // calls that were done with others
}

// What the first word says, bit by bit.
const (
	isLong = 1 << iota
	isIdle // changes nothing
	isSlow // waits for release
)

// What the second says.
const (
	endsLate   = 100 + iota // "not now"
	endsTooBig              // with a reply that is not kept
	endsInNone              // with no reply
	endsAlone               // is not done with others
)

func (l *ledger) Plan(c *Call) Plan {
	args := c.Args
	how := args.Uint32()
	p := Plan{Long: how&isLong != 0, Changes: how&isIdle == 0}
	if !p.Long {
		p.Shared = 4
	}
	return p
}

func (l *ledger) do(w *xdr.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	w.Uint32(l.done)
}

func (l *ledger) Serve(_ context.Context, c *Call, w *xdr.Writer) Status {
	how, end := c.Args.Uint32(), c.Args.Uint32()
	l.do(w)
	if how&isSlow != 0 {
		l.entered <- struct{}{}
		<-l.release
	}
	switch end {
	case endsInGarbage:
		return GarbageArgs
	case endsInPanic:
		panic("defect")
	case endsInNone:
		return NoReply
	case endsTooBig:
		w.Extend(answerRoom)
	case endsLate:
		c.Forget = true
	}
	return Success
}

func (l *ledger) ServeAll(_ context.Context, _ *Call, parts []Part, w *xdr.Writer) bool {
	for i := range parts {
		args := parts[i].Args
		args.Uint32()
		if args.Uint32() == endsAlone {
			return false
		}
	}
	for i := range parts {
		p := &parts[i]
		p.Begin(w)
		l.do(w)
		args := p.Args
		args.Uint32()
		p.Forget = args.Uint32() == endsLate
	}
	l.mu.Lock()
	l.all += len(parts)
	l.mu.Unlock()
	return true
}

// accepted reads a reply: its number, and the count or, when it has none, what it ended as.
func (c *client) accepted() string {
	c.t.Helper()
	r := c.reply()
	xid := r.Uint32()
	r.Skip(16)
	if st := Status(r.Uint32()); st != Success {
		return fmt.Sprint(xid, " ", st)
	}
	return fmt.Sprint(xid, " ", r.Uint32())
}

// TestAnsweredAgain: a copy of a call that changes something, and was answered, is not done
// but answered as the first was, whatever it was done as; all other calls are done.
func TestAnsweredAgain(t *testing.T) {
	call := func(xid, how, end uint32, more ...uint32) []byte {
		return message(xid, procEcho, append([]uint32{how, end}, more...)...)
	}
	by := func(xid, uid, stamp uint32) []byte {
		cred := sysCred("board", uid, 0)
		binary.BigEndian.PutUint32(cred, stamp)
		msg := authMessage(xid, AuthSys, cred, AuthNone, nil)
		return append(binary.BigEndian.AppendUint32(msg, isLong), 0, 0, 0, 0)
	}
	type sends [][]byte // at once
	for _, tc := range []struct {
		name  string
		sends []sends
		want  []string
		all   int // that are done together
	}{
		{"a long one", []sends{{call(1, isLong, 0)}, {call(1, isLong, 0)}}, []string{"1 1", "1 1"}, 0},
		{"a cheap one", []sends{{call(1, 0, 0)}, {call(1, 0, 0)}}, []string{"1 1", "1 1"}, 0},
		{"over and over", []sends{{call(1, 0, 0)}, {call(1, 0, 0), call(1, 0, 0)}, {call(2, 0, 0), call(1, 0, 0)}}, []string{"1 1", "1 1", "1 1", "2 2", "1 1"}, 0},
		{
			"of those done together",
			[]sends{{call(1, 0, 0), call(2, 0, 0), call(3, 0, 0)}, {call(2, 0, 0)}, {call(3, 0, 0)}, {call(1, 0, 0)}},
			[]string{"1 1", "2 2", "3 3", "2 2", "3 3", "1 1"},
			3,
		},
		{"before those done together", []sends{{call(1, 0, 0)}, {call(1, 0, 0), call(2, 0, 0), call(3, 0, 0)}}, []string{"1 1", "1 1", "2 2", "3 3"}, 2},
		{
			"among those done together",
			[]sends{{call(1, 0, 0)}, {call(2, 0, 0), call(3, 0, 0), call(1, 0, 0), call(4, 0, 0), call(5, 0, 0)}},
			[]string{"1 1", "2 2", "3 3", "1 1", "4 4", "5 5"},
			4,
		},
		{"not now, of those done together", []sends{{call(1, 0, endsLate), call(2, 0, 0)}, {call(1, 0, endsLate)}, {call(2, 0, 0)}}, []string{"1 1", "2 2", "1 3", "2 2"}, 2},
		{"one by one after all", []sends{{call(1, 0, 0), call(2, 0, endsAlone)}, {call(2, 0, endsAlone)}, {call(1, 0, 0)}}, []string{"1 1", "2 2", "2 2", "1 1"}, 0},
		{"at another time of its client", []sends{{by(1, 7, 100)}, {by(1, 7, 160)}}, []string{"1 1", "1 1"}, 0},
		{"another caller's", []sends{{by(1, 7, 1)}, {by(1, 8, 1)}}, []string{"1 1", "1 2"}, 0},
		{"other arguments", []sends{{call(1, isLong, 0, 1)}, {call(1, isLong, 0, 2)}, {call(1, isLong, 0, 2)}}, []string{"1 1", "1 2", "1 2"}, 0},
		{"longer", []sends{{call(1, isLong, 0)}, {call(1, isLong, 0, 0)}}, []string{"1 1", "1 2"}, 0},
		{"another procedure", []sends{{call(1, isLong, 0)}, {message(1, procBig, isLong, 0)}}, []string{"1 1", "1 2"}, 0},
		{"changes nothing", []sends{{call(1, isLong|isIdle, 0)}, {call(1, isLong|isIdle, 0)}}, []string{"1 1", "1 2"}, 0},
		{"garbage", []sends{{call(1, isLong, endsInGarbage)}, {call(1, isLong, endsInGarbage)}, {call(2, 0, 0)}}, []string{"1 garbage_args", "1 garbage_args", "2 3"}, 0},
		{"a defect", []sends{{call(1, isLong, endsInPanic)}, {call(1, isLong, endsInPanic)}, {call(2, 0, 0)}}, []string{"1 system_err", "1 system_err", "2 3"}, 0},
		{"a cheap defect", []sends{{call(1, 0, endsInPanic)}, {call(1, 0, endsInPanic)}, {call(2, 0, 0)}}, []string{"1 system_err", "1 system_err", "2 3"}, 0},
		{"no reply", []sends{{call(1, isLong, endsInNone), call(1, isLong, endsInNone), call(2, 0, 0)}}, []string{"2 3"}, 0},
		{"not now", []sends{{call(1, isLong, endsLate)}, {call(1, isLong, endsLate)}}, []string{"1 1", "1 2"}, 0},
		{"not now, and cheap", []sends{{call(1, 0, endsLate)}, {call(1, 0, endsLate)}}, []string{"1 1", "1 2"}, 0},
		{"too long a reply", []sends{{call(1, isLong, endsTooBig)}, {call(1, isLong, endsTooBig)}}, []string{"1 1", "1 2"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := &ledger{fake: newFake()}
			var mu sync.Mutex
			var events []Event
			_, addr := start(t, Config{Programs: []Program{l}, Observe: func(e Event) {
				mu.Lock()
				events = append(events, e)
				mu.Unlock()
			}})
			c := dial(t, addr)
			var got []string
			asked, again := 0, 0
			for _, msgs := range tc.sends {
				var b []byte
				for _, msg := range msgs {
					b = append(b, framed(msg)...)
				}
				c.send(b...)
				asked += len(msgs)
				for range min(len(msgs), len(tc.want)-len(got)) {
					got = append(got, c.accepted())
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, e := range events {
				if e.Replayed {
					again++
				}
				if e.Program != testNumber || e.In == 0 || e.Out == 0 && e.Status != NoReply {
					t.Errorf("%+v", e)
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.all != tc.all {
				t.Errorf("%d were done together, want %d", l.all, tc.all)
			}
			if len(events) != asked || again != asked-int(l.done) {
				t.Errorf("%d calls, %d of them done: %d events, %d of them replayed", asked, l.done, len(events), again)
			}
		})
	}
}

// TestAnsweredBehind: a copy that lies in the socket while the first runs, behind a call
// that has to wait for it, is answered when the first was; so it is with calls that are long
// because there are too many.
func TestAnsweredBehind(t *testing.T) {
	for name, tc := range map[string]struct {
		limits Limits
		how    uint32
	}{
		"long":       {Limits{CallsPerConn: 1}, isLong},
		"in a crowd": {Limits{CallsPerConn: 1, Inline: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := &ledger{fake: newFake()}
			_, addr := start(t, Config{Programs: []Program{l}, Limits: tc.limits})
			release := sync.OnceFunc(func() { close(l.release) })
			t.Cleanup(release)
			crowd := dial(t, addr)
			if tc.limits.Inline > 0 {
				crowd.send(framed(message(9, procEcho, isSlow|isIdle, 0))...)
				<-l.entered
			}
			c := dial(t, addr)
			c.send(framed(message(1, procEcho, tc.how|isSlow, 0))...)
			<-l.entered
			second, first := framed(message(2, procEcho, tc.how|isSlow, 0)), framed(message(1, procEcho, tc.how|isSlow, 0))
			c.send(slices.Concat(second, first, framed(message(3, procEcho, tc.how, 0)))...)
			release()
			var got []string
			for range 4 {
				got = append(got, c.accepted())
			}
			slices.Sort(got)
			want := []string{"1 1", "1 1", "2 2", "3 3"}
			if tc.limits.Inline > 0 {
				want = []string{"1 2", "1 2", "2 3", "3 4"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestAnsweredElsewhere: what comes again on another connection is done again: its client
// has no answer, or not that of this server.
func TestAnsweredElsewhere(t *testing.T) {
	l := &ledger{fake: newFake()}
	_, addr := start(t, Config{Programs: []Program{l}})
	c := dial(t, addr)
	for i := range 3 {
		for range 2 {
			c.send(framed(message(1, procEcho, isLong, 0))...)
			if got, want := c.accepted(), fmt.Sprint("1 ", 1+i); got != want {
				t.Errorf("%d. connection: %q, want %q", 1+i, got, want)
			}
		}
		c = c.anew()
	}
}

// TestAnsweredPoured: so it is with calls whose data goes through a pipe; that of a copy goes
// nowhere, and the call behind it is understood.
func TestAnsweredPoured(t *testing.T) {
	for _, tc := range []struct {
		name        string
		first, copy bool // of which data goes through a pipe
	}{
		{"both", true, true},
		{"the first", true, false},
		{"the copy", false, true},
		{"none", false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPourer(t)
			p.changes.Store(true)
			s, addr := start(t, Config{Programs: []Program{p}})
			pipes := func(n int) {
				s.pipes.mu.Lock()
				defer s.pipes.mu.Unlock()
				s.pipes.each = n
			}
			c := dial(t, addr)
			c.warm(128 << 10)
			data := noise(1, 128<<10)
			want := int64(0)
			for i, piped := range []bool{tc.first, tc.copy} {
				before := p.poured.Load()
				pipes(0)
				if piped {
					pipes(4)
				}
				if i > 0 { // its client has other data there now
					data = noise(2, 128<<10)
				} else if piped {
					want = 1
				}
				c.send(large(7, 0, endsWell, data)...)
				words(t, c.reply(), 7, 1, ok, 0, 0, 0, 128<<10, 0)
				if i == 0 && p.poured.Load()-before != want || i > 0 && p.poured.Load() != before {
					t.Errorf("call %d: %d poured", i, p.poured.Load()-before)
				}
			}
			c.send(large(8, 256<<10, endsWell, data)...)
			words(t, c.reply(), 8, 1, ok, 0, 0, 0, 128<<10, 0)
			if who := s.peers.list()[0].who; func() int { s.pipes.mu.Lock(); defer s.pipes.mu.Unlock(); return who.pipes }() != 0 {
				t.Error("a pipe was not given back")
			}
			got := make([]byte, 128<<10)
			if _, err := unix.Pread(p.file(), got, 0); err != nil || !slices.Equal(got, noise(1, 128<<10)) {
				t.Errorf("the copy was written, %v", err)
			}
			if _, err := unix.Pread(p.file(), got, 256<<10); err != nil || !slices.Equal(got, data) {
				t.Errorf("the call behind it was not written, %v", err)
			}
		})
	}
}

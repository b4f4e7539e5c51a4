package sunrpc

import (
	"math/rand/v2"
	"testing"

	"rubus/nfsexport/xdr"
)

// TestAnswered: as many answers are kept as there is room for; there is more while they are
// young, and less when few come.
func TestAnswered(t *testing.T) {
	for name, xid := range map[string]func(i int) uint32{
		"counted":                     func(i int) uint32 { return 0xfffffff0 + uint32(i) },
		"counted in the highest byte": func(i int) uint32 { return 0x41 + uint32(i)<<24 + uint32(i)>>8<<16 },
		"by chance":                   func(i int) uint32 { return rand.New(rand.NewPCG(uint64(i), 7)).Uint32() },
	} {
		t.Run(name, func(t *testing.T) {
			found := func(a *answered, n int) (found int) {
				for i := range n {
					if e := a.find(xid(i), uint64(i)); e != nil && int(e.reply[0]) == i&0xff {
						found++
					}
				}
				return found
			}
			var few, many answered
			late := int64(0)
			for i := range 2 * manyAnswers {
				for _, a := range []*answered{&few, &many} {
					if e := a.find(xid(i), uint64(i)); e != nil {
						t.Fatalf("an answer to call %d: %+v", i, e)
					}
				}
				few.keep(xid(i), uint64(i), []byte{byte(i)}, late, manyAnswers)
				late += young
				before := found(&many, i)
				many.keep(xid(i), uint64(i), []byte{byte(i)}, young, manyAnswers)
				if after := found(&many, i+1); after != before+1 && len(many.of) < manyAnswers {
					t.Fatalf("%d of %d answers after the next", after, before)
				}
			}
			if len(few.of) != fewAnswers || len(many.of) != manyAnswers {
				t.Errorf("there is room for %d and %d", len(few.of), len(many.of))
			}
			n := found(&many, 2*manyAnswers)
			if least := manyAnswers / 2; n < least {
				t.Errorf("%d are kept, want %d", n, least)
			}
			t.Logf("%d are kept", n)
			if e := many.find(xid(2*manyAnswers-1), 1); e != nil {
				t.Error("the answer to another call")
			}
			for i, now := 2*manyAnswers, young; len(many.of) > fewAnswers; i, now = i+1, now+season/4 {
				many.keep(xid(i), uint64(i), []byte{byte(i)}, now, manyAnswers)
				if many.find(xid(i), uint64(i)) == nil {
					t.Errorf("the answer to call %d is lost", i)
				}
				if i > 3*manyAnswers {
					t.Fatalf("there is room for %d, with few calls", len(many.of))
				}
			}
		})
	}
}

// TestAnsweredStranger: those whom nobody knows have little room.
func TestAnsweredStranger(t *testing.T) {
	for _, known := range []bool{true, false} {
		s := New(Config{})
		c := &conn{s: s, who: new(peer)}
		c.who.stranger.Store(!known)
		var w xdr.Writer
		appendAccepted(&w, 1, Success)
		for i := range uint32(3 * fewAnswers) {
			c.keep(i, 1, w.Buf)
		}
		if got := len(c.answered.of) > fewAnswers; got != known {
			t.Errorf("known %t: room for %d", known, len(c.answered.of))
		}
	}
}

// BenchmarkAnswered: what it costs a call that changes something to be known again.
func BenchmarkAnswered(b *testing.B) {
	s := New(Config{})
	c := &conn{s: s, who: new(peer)}
	var w xdr.Writer
	appendAccepted(&w, 1, Success)
	w.Extend(answerRoom - 24)
	args := make([]byte, 64+4096)
	for name, plan := range map[string]Plan{"4K": {Changes: true}, "data": {Changes: true, Long: true, Data: 4096}} {
		b.Run(name, func(b *testing.B) {
			xid := uint32(0)
			for b.Loop() {
				xid += 1 << 24
				if xid>>24 == 0 {
					xid++
				}
				c.call.XID, c.call.Args = xid, xdr.NewReader(args)
				c.call.sum = s.sum(&c.call, plan)
				if c.sentAgain() {
					b.Fatal()
				}
				c.mu.Lock()
				c.keep(xid, c.call.sum, w.Buf)
				c.mu.Unlock()
			}
		})
	}
}

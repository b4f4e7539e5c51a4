package sunrpc

import (
	"testing"

	"rubus/nfsexport/xdr"
)

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

package sunrpc

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"testing"

	"rubus/nfsexport/xdr"
)

// joining is a program whose calls of procEcho can be run together when their first
// word is the same. The second says what becomes of them.
type joining struct {
	*fake
	mu    sync.Mutex
	sizes []int // of what was run together
}

const (
	partBig    = 100 + iota // announces a reply of 16 KiB
	partAlone               // ServeAll has none of it
	partPanics              // of ServeAll
	partLong                // is a long call
)

func (j *joining) Plan(c *Call) Plan {
	if c.Procedure != procEcho {
		return j.fake.Plan(c)
	}
	args := c.Args
	args.Uint32()
	what := args.Uint32()
	plan := Plan{Shared: 4}
	switch what {
	case partBig:
		plan.Reply = 16 << 10
	case partLong:
		plan.Long = true
	}
	return plan
}

func (j *joining) ServeAll(_ context.Context, c *Call, parts []Part, w *xdr.Writer) bool {
	j.mu.Lock()
	j.sizes = append(j.sizes, len(parts))
	j.mu.Unlock()
	c.Subject = "all"
	for i := range parts {
		p := &parts[i]
		p.Begin(w)
		args := p.Args
		args.Uint32()
		p.Result = args.Uint32()
		switch p.Result {
		case partAlone:
			return false
		case partPanics:
			panic("defect")
		}
		w.Buf = append(w.Buf, p.Args.Rest()...)
	}
	return true
}

// TestTogether: what lies one behind the other and has the same beginning is run
// together, and every call gets its own answer, in order.
func TestTogether(t *testing.T) {
	type call struct {
		proc uint32
		args []uint32
	}
	echo := func(args ...uint32) call { return call{procEcho, args} }
	good := func(calls ...call) (want [][]uint32) {
		for _, c := range calls {
			if c.proc != procEcho {
				c.args = nil
			}
			want = append(want, append([]uint32{uint32(Success)}, c.args...))
		}
		return want
	}
	same := func(n int, args ...uint32) []call { return slices.Repeat([]call{echo(args...)}, n) }
	failed := [][]uint32{{uint32(SystemErr)}, {uint32(SystemErr)}, {uint32(SystemErr)}}
	null := call{procNull, []uint32{7, 1}}
	for _, tc := range []struct {
		name  string
		calls []call
		want  [][]uint32
		sizes []int // of what is run together
	}{
		{"one", same(1, 7, 1), nil, nil},
		{"three", []call{echo(7, 1), echo(7, 2, 5, 6), echo(7, 3)}, nil, []int{3}},
		{"two and two", []call{echo(7, 1), echo(7, 2), echo(8, 1), echo(8, 2)}, nil, []int{2, 2}},
		{"by turns", []call{echo(7, 1), echo(8, 1), echo(7, 1), echo(8, 1)}, nil, nil},
		{"another procedure between", []call{echo(7, 1), echo(7, 2), null, echo(7, 3)}, nil, []int{2}},
		{"a long one between", []call{echo(7, 1), echo(7, 2), echo(7, partLong), echo(7, 3), echo(7, 4)}, nil, []int{2, 2}},
		{"more than at once", same(maxParts+2, 7, 1), nil, []int{maxParts, 2}},
		{"more than replies have room", same(5, 7, partBig), nil, []int{4}},
		{"shorter than what is shared", []call{echo(7, 1), echo(), echo(7, 2), echo(7, 3)}, nil, []int{2}},
		{"none but short ones", same(3), nil, nil},
		{"one by one after all", []call{echo(7, 1), echo(7, partAlone), echo(7, 3)}, nil, []int{3}},
		{"a panic", []call{echo(7, 1), echo(7, partPanics), echo(7, 3)}, failed, []int{3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := &joining{fake: newFake()}
			var mu sync.Mutex
			var events []Event
			_, addr := start(t, Config{Programs: []Program{j}, Observe: func(e Event) {
				mu.Lock()
				events = append(events, e)
				mu.Unlock()
			}})
			c := dial(t, addr)
			var out []byte
			for i, one := range tc.calls {
				out = append(out, framed(message(uint32(i), one.proc, one.args...))...)
			}
			if tc.want == nil {
				tc.want = good(tc.calls...)
			}
			c.send(out...)
			for i, want := range tc.want {
				words(t, c.reply(), append([]uint32{uint32(i), msgReply, ok, 0, 0}, want...)...)
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(j.sizes, tc.sizes) {
				t.Errorf("%d were run together, want %d", j.sizes, tc.sizes)
			}
			if len(events) != len(tc.calls) {
				t.Errorf("%d events of %d calls", len(events), len(tc.calls))
			}
			for _, e := range events {
				if e.Subject == "all" && e.Status == Success && (e.Out != 24+e.In || e.Result == 0) {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// TestTogetherOfOne: calls of others are never run with a caller's.
func TestTogetherOfOne(t *testing.T) {
	j := &joining{fake: newFake()}
	_, addr := start(t, Config{Programs: []Program{j}})
	c := dial(t, addr)
	var out []byte
	for i := range uint32(4) {
		msg := authMessage(i, AuthSys, sysCred("board", i/3, 7), AuthNone, nil) // the last is another's
		binary.BigEndian.PutUint32(msg[20:], procEcho)
		out = append(out, framed(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(msg, 7), 1))...)
	}
	c.send(out...)
	for i := range uint32(4) {
		words(t, c.reply(), i, msgReply, ok, 0, 0, 0, 7, 1)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.sizes, []int{3}) {
		t.Errorf("%d were run together", j.sizes)
	}
}

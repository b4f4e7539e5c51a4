package nfs3

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// varied is a fakeFS whose READs and WRITEs end in all ways, by their offset.
type varied struct{ *fakeFS }

func (v varied) as(off uint64) *fakeFS {
	f := *v.fakeFS
	f.data = []byte("these are data of twenty-nine")[:off%30]
	if f.eof = off%2 == 0; off%5 == 3 {
		f.status = ErrNoSpc
	}
	return &f
}

func (v varied) Read(c *Call, fh []byte, off uint64, buf []byte, a *PostAttr) (int, bool, Status) {
	return v.as(off).Read(c, fh, off, buf, a)
}

func (v varied) Write(c *Call, fh []byte, off uint64, data []byte, how Stable, w *Wcc) (int, Stable, Status) {
	f := v.as(off)
	f.done = how
	return f.Write(c, fh, off, data, how, w)
}

func (v varied) ReadAll(c *Call, fh []byte, pieces []Piece, a *PostAttr) Status {
	c.Subject = "subject"
	for i := range pieces {
		p := &pieces[i]
		p.N, p.EOF, p.Status = v.Read(c, fh, p.Off, p.Data, a)
	}
	return v.by["all"]
}

func (v varied) WriteAll(c *Call, fh []byte, pieces []Piece, w *Wcc) Status {
	c.Subject = "subject"
	for i := range pieces {
		p := &pieces[i]
		p.N, _, p.Status = v.Write(c, fh, p.Off, p.Data, Unstable, w)
	}
	return v.by["all"]
}

// TestTogether: calls that are run together are answered as each alone.
func TestTogether(t *testing.T) {
	reads := [][]byte{
		args("fh", uint64(10), 100), args("fh", uint64(0), 29), args("fh", uint64(29), 29), args("fh", uint64(3), 7),
		args("fh", uint64(17), 5), args("fh", uint64(17), 0), args("fh", uint64(1<<63), 4), args("fh", uint64(29), 16<<10),
	}
	writes := [][]byte{
		args("fh", uint64(10), 5, 0, "bytes"), args("fh", uint64(3), 1, 0, "x"), args("fh", uint64(0), 0, 0, ""),
		args("fh", uint64(4), 6, 0, "six by"),
	}
	for _, tc := range []struct {
		name  string
		proc  uint32
		calls [][]byte
		apart bool // they are not done together
		alter func(v varied)
	}{
		{name: "reads", proc: ProcRead, calls: reads},
		{name: "reads without attributes", proc: ProcRead, calls: reads, alter: func(v varied) { v.post = PostAttr{} }},
		{name: "reads that fail", proc: ProcRead, calls: reads, alter: func(v varied) { v.by = map[string]Status{"all": ErrStale, "read": ErrStale} }},
		{name: "reads of no handle", proc: ProcRead, calls: [][]byte{args("", uint64(0), 1), args("", uint64(0), 1)}},
		{name: "reads, one broken", proc: ProcRead, calls: append(slices.Clone(reads), args("fh", 1)), apart: true},
		{name: "writes", proc: ProcWrite, calls: writes},
		{name: "writes without attributes", proc: ProcWrite, calls: writes, alter: func(v varied) { v.wcc = Wcc{} }},
		{name: "writes that fail", proc: ProcWrite, calls: writes, alter: func(v varied) { v.by = map[string]Status{"all": ErrStale, "write": ErrStale} }},
		{name: "writes, one stable", proc: ProcWrite, calls: append(slices.Clone(writes), args("fh", uint64(0), 1, 2, "x")), apart: true},
		{name: "writes, one too far", proc: ProcWrite, calls: append(slices.Clone(writes), args("fh", uint64(1<<63), 1, 0, "x")), apart: true},
		{name: "writes, one broken", proc: ProcWrite, calls: append(slices.Clone(writes), args("fh", uint64(0), 9, 0, "x")), apart: true},
		{name: "another procedure", proc: ProcGetAttr, calls: [][]byte{args("fh"), args("fh")}, apart: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := varied{sample()}
			if tc.alter != nil {
				tc.alter(v)
			}
			parts := make([]sunrpc.Part, len(tc.calls))
			for i, a := range tc.calls {
				parts[i].Args = xdr.NewReader(a)
			}
			// As the pool's buffers: with something of before in them.
			w := xdr.Writer{Buf: slices.Repeat([]byte("\xa5"), 64<<10)[:8]}
			rc := rpcCall(tc.proc, tc.calls[0])
			verf := v.verf
			if NewProgram(v).ServeAll(context.Background(), rc, parts, &w) == tc.apart {
				t.Fatalf("together: %v", !tc.apart)
			}
			if tc.apart {
				if len(v.calls) > 0 {
					t.Errorf("something was done: %s", v.calls)
				}
				return
			}
			if w.Buf = w.Buf[8:]; rc.Subject != "subject" && len(v.calls) > 0 {
				t.Errorf("the subject is %v", rc.Subject)
			}
			for i, a := range tc.calls {
				v.verf = verf
				want, _ := run(t, v, tc.proc, a)
				head := fmt.Sprintf("%x", w.Buf[4:sunrpc.PartHeader]) // the mark is the server's
				if got := toWords(w.Buf[sunrpc.PartHeader:][:4*len(want)]); !slices.Equal(got, want) || head != fmt.Sprintf("%08x%08x%032x", 0, 1, 0) {
					t.Errorf("call %d: got %s\n%x\nwant\n%x", i, head, got, want)
				}
				if parts[i].Result != want[0] || parts[i].Result != binary.BigEndian.Uint32(w.Buf[sunrpc.PartHeader:]) {
					t.Errorf("call %d: result %d", i, parts[i].Result)
				}
				w.Buf = w.Buf[sunrpc.PartHeader+4*len(want):]
			}
			if len(w.Buf) > 0 {
				t.Errorf("%d bytes more", len(w.Buf))
			}
		})
	}
}

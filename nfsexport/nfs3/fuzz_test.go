package nfs3

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// FuzzProcedures gives any bytes to any procedure. Whatever comes, the answer
// is well framed, and the FS sees only bounded arguments.
func FuzzProcedures(f *testing.F) {
	for _, tc := range goldens {
		f.Add(tc.proc, tc.args)
		f.Add(tc.proc, tc.args[:len(tc.args)-1])
	}
	f.Add(uint32(ProcCreate), args("dir", "n", 2, uint64(1)))
	f.Add(uint32(ProcMknod), args("dir", "n", 7, SetAttr{}))
	f.Add(uint32(ProcWrite), args("fh", uint64(1<<64-1), 4, 0, "data"))
	f.Add(uint32(ProcRename), args("a", "..", "b", "/"))
	f.Fuzz(func(t *testing.T, proc uint32, a []byte) {
		proc %= Procs + 1
		fs := &strict{fakeFS: sample(), t: t}
		manyEntries(fs.fakeFS, 20)
		p := NewProgram(fs)
		for _, begun := range []int64{0, 1} {
			c := rpcCall(proc, a)
			c.Begun = begun
			plan := p.Plan(c)
			w := xdr.Writer{}
			st := p.Serve(context.Background(), c, &w)
			if len(w.Buf)%4 != 0 && st == sunrpc.Success {
				t.Fatalf("results of %d bytes", len(w.Buf))
			}
			if len(w.Buf) > max(plan.Reply, 0)+480 && st == sunrpc.Success {
				t.Fatalf("procedure %d: %d bytes, planned %d", proc, len(w.Buf), plan.Reply)
			}
			if plan.Reply > MaxIO {
				t.Fatalf("planned %d", plan.Reply)
			}
		}
	})
}

// strict checks what an FS may rely on.
type strict struct {
	*fakeFS
	t *testing.T
}

func (s *strict) name(n string) {
	if n == "" || len(n) > MaxName || strings.ContainsAny(n, "/\x00") {
		s.t.Fatalf("name %q", n)
	}
}

func (s *strict) Read(c *Call, fh []byte, off uint64, buf []byte, a *PostAttr) (int, bool, Status) {
	if len(fh) == 0 || len(fh) > MaxHandle || len(buf) > MaxIO || int64(off)+int64(len(buf)) < 0 {
		s.t.Fatalf("read %d at %d of %x", len(buf), off, fh)
	}
	return s.fakeFS.Read(c, fh, off, buf, a)
}

func (s *strict) Write(c *Call, fh []byte, off uint64, data []byte, how Stable, w *Wcc) (int, Stable, Status) {
	if len(fh) == 0 || len(fh) > MaxHandle || len(data) > MaxIO || int64(off)+int64(len(data)) < 0 || how > FileSync {
		s.t.Fatalf("write %d at %d of %x", len(data), off, fh)
	}
	return s.fakeFS.Write(c, fh, off, data, how, w)
}

func (s *strict) Create(c *Call, dir []byte, name string, mode CreateMode, set *SetAttr, verf uint64, n *New) Status {
	if s.name(name); mode > Exclusive || (set == nil) != (mode == Exclusive) {
		s.t.Fatalf("create %d %v", mode, set)
	}
	return s.fakeFS.Create(c, dir, name, mode, set, verf, n)
}

func (s *strict) Remove(c *Call, dir []byte, name string, w *Wcc) Status {
	s.name(name)
	return s.fakeFS.Remove(c, dir, name, w)
}

func (s *strict) Rename(c *Call, from []byte, fn string, to []byte, tn string, a, b *Wcc) Status {
	s.name(fn)
	s.name(tn)
	return s.fakeFS.Rename(c, from, fn, to, tn, a, b)
}

func (s *strict) Lookup(c *Call, dir []byte, name string, h *[]byte, a, d *PostAttr) Status {
	s.name(name)
	return s.fakeFS.Lookup(c, dir, name, h, a, d)
}

// TestGoldenRecord is a whole call as a Linux client sends it, and the reply,
// byte by byte.
func TestGoldenRecord(t *testing.T) {
	call, reply := golden(t, "testdata/lookup-call.hex"), golden(t, "testdata/lookup-reply.hex")
	fs := sample()
	t.Run("wire", func(t *testing.T) { // its end is that of the server
		got := exchange(t, sunrpc.Config{Programs: []sunrpc.Program{NewProgram(fs)}}, call, len(reply))
		if !bytes.Equal(got, reply) {
			t.Errorf("got\n%s\nwant\n%s", hex.Dump(got), hex.Dump(reply))
		}
	})
	if len(fs.calls) != 1 || fs.calls[0] != `lookup rootrootrootroot "vmlinuz"` {
		t.Errorf("calls %q", fs.calls)
	}
}

// golden reads a file of hex digits with comments.
func golden(t testing.TB, path string) (b []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		line, _, _ = strings.Cut(line, "#")
		part, err := hex.DecodeString(strings.Join(strings.Fields(line), ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

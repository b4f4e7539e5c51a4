package nfs3

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// fakeFS answers every call with what its fields hold, and notes the calls.
type fakeFS struct {
	status Status // of the next call; statuses overrides it by method name
	by     map[string]Status
	post   PostAttr
	wcc    Wcc
	handle []byte
	text   string
	data   []byte
	eof    bool
	done   Stable
	verf   uint64
	list   []Entry
	calls  []string

	attrCalls int // GETATTR without a note, for benchmarks
}

func (f *fakeFS) note(name, format string, args ...any) Status {
	f.calls = append(f.calls, name+" "+fmt.Sprintf(format, args...))
	if st, ok := f.by[name]; ok {
		return st
	}
	return f.status
}

func (f *fakeFS) GetAttr(_ *Call, fh []byte, a *Attr) Status {
	f.attrCalls++
	if len(f.by) > 0 || f.calls != nil {
		f.note("getattr", "%s", fh)
	}
	*a = f.post.Attr
	if st, ok := f.by["getattr"]; ok {
		return st
	}
	return f.status
}

func setWords(s *SetAttr) string {
	if s == nil {
		return "nil"
	}
	return fmt.Sprintf("%+v", *s)
}

func (f *fakeFS) SetAttr(_ *Call, fh []byte, s *SetAttr, guard *Time, w *Wcc) Status {
	*w = f.wcc
	g := "none"
	if guard != nil {
		g = fmt.Sprint(*guard)
	}
	return f.note("setattr", "%s %s guard %s", fh, setWords(s), g)
}

func (f *fakeFS) Lookup(_ *Call, dir []byte, name string, h *[]byte, a, d *PostAttr) Status {
	if len(f.by) > 0 || f.calls != nil {
		f.note("lookup", "%s %q", dir, name)
	}
	*h, *a, *d = append(*h, f.handle...), f.post, f.post
	if st, ok := f.by["lookup"]; ok {
		return st
	}
	return f.status
}

func (f *fakeFS) Access(_ *Call, fh []byte, want uint32, a *PostAttr) (uint32, Status) {
	*a = f.post
	return 0xff, f.note("access", "%s %x", fh, want)
}

func (f *fakeFS) ReadLink(_ *Call, fh []byte, text *[]byte, a *PostAttr) Status {
	*text, *a = append(*text, f.text...), f.post
	return f.note("readlink", "%s", fh)
}

func (f *fakeFS) Read(_ *Call, fh []byte, off uint64, buf []byte, a *PostAttr) (int, bool, Status) {
	*a = f.post
	return copy(buf, f.data), f.eof, f.note("read", "%s %d %d", fh, off, len(buf))
}

func (f *fakeFS) Write(_ *Call, fh []byte, off uint64, data []byte, how Stable, w *Wcc) (int, Stable, Status) {
	*w = f.wcc
	st := f.note("write", "%s %d %d bytes %d", fh, off, len(data), how)
	f.verf++ // as if an fsync failed meanwhile
	return len(data), f.done, st
}

func (f *fakeFS) ReadAll(c *Call, fh []byte, pieces []Piece, a *PostAttr) (st Status) {
	for i := range pieces {
		p := &pieces[i]
		p.N, p.EOF, p.Status = f.Read(c, fh, p.Off, p.Data, a)
	}
	return OK
}

func (f *fakeFS) WriteAll(c *Call, fh []byte, pieces []Piece, w *Wcc) Status {
	for i := range pieces {
		p := &pieces[i]
		p.N, _, p.Status = f.Write(c, fh, p.Off, p.Data, Unstable, w)
	}
	return OK
}

func (f *fakeFS) made(n *New) {
	n.Handle, n.Attr, n.Dir = append(n.Handle, f.handle...), f.post, f.wcc
}

func (f *fakeFS) Create(_ *Call, dir []byte, name string, mode CreateMode, s *SetAttr, verf uint64, n *New) Status {
	f.made(n)
	return f.note("create", "%s %q %d %s %x", dir, name, mode, setWords(s), verf)
}

func (f *fakeFS) Mkdir(_ *Call, dir []byte, name string, s *SetAttr, n *New) Status {
	f.made(n)
	return f.note("mkdir", "%s %q %s", dir, name, setWords(s))
}

func (f *fakeFS) Symlink(_ *Call, dir []byte, name, text string, s *SetAttr, n *New) Status {
	f.made(n)
	return f.note("symlink", "%s %q %q", dir, name, text)
}

func (f *fakeFS) Mknod(_ *Call, dir []byte, name string, t FileType, major, minor uint32, s *SetAttr, n *New) Status {
	f.made(n)
	return f.note("mknod", "%s %q %d %d:%d", dir, name, t, major, minor)
}

func (f *fakeFS) Remove(_ *Call, dir []byte, name string, w *Wcc) Status {
	*w = f.wcc
	return f.note("remove", "%s %q", dir, name)
}

func (f *fakeFS) Rmdir(_ *Call, dir []byte, name string, w *Wcc) Status {
	*w = f.wcc
	return f.note("rmdir", "%s %q", dir, name)
}

func (f *fakeFS) Rename(_ *Call, from []byte, fn string, to []byte, tn string, a, b *Wcc) Status {
	*a, *b = f.wcc, f.wcc
	return f.note("rename", "%s %q %s %q", from, fn, to, tn)
}

func (f *fakeFS) Link(_ *Call, fh, dir []byte, name string, a *PostAttr, w *Wcc) Status {
	*a, *w = f.post, f.wcc
	return f.note("link", "%s %s %q", fh, dir, name)
}

func (f *fakeFS) ReadDir(_ *Call, dir []byte, cookie uint64, verf *uint64, plus bool, to Entries, a *PostAttr) (bool, Status) {
	*a = f.post
	st := f.note("readdir", "%s %d %d %v", dir, cookie, *verf, plus)
	*verf = f.verf
	for i := range f.list {
		if f.list[i].Cookie > cookie && !to.Add(&f.list[i]) {
			return false, st
		}
	}
	return true, st
}

func (f *fakeFS) FSStat(_ *Call, fh []byte, s *FSStat, a *PostAttr) Status {
	*s, *a = FSStat{1, 2, 3, 4, 5, 6}, f.post
	return f.note("fsstat", "%s", fh)
}

func (f *fakeFS) FSInfo(_ *Call, fh []byte, a *PostAttr) Status {
	*a = f.post
	return f.note("fsinfo", "%s", fh)
}

func (f *fakeFS) PathConf(_ *Call, fh []byte, p *PathConf, a *PostAttr) Status {
	*p, *a = PathConf{LinkMax: 65000, NameMax: 255, NoTrunc: true, CasePreserve: true}, f.post
	return f.note("pathconf", "%s", fh)
}

func (f *fakeFS) Commit(_ *Call, fh []byte, off uint64, count uint32, w *Wcc) Status {
	*w = f.wcc
	st := f.note("commit", "%s %d %d", fh, off, count)
	f.verf++
	return st
}

func (f *fakeFS) Settle(_ *Call, fh []byte) Status { return f.note("settle", "%s", fh) }

func (f *fakeFS) WriteVerifier([]byte) uint64 { return f.verf }

// sampleAttr has another value in every field; attrWords is its fattr3, in the
// order of RFC 1813 section 2.5.
var (
	sampleAttr = Attr{
		Type: TypeReg, Mode: 0o644, Nlink: 2, UID: 3, GID: 4, Size: 5<<32 | 6, Used: 7<<32 | 8, Major: 9, Minor: 10,
		FSID: 11<<32 | 12, FileID: 13<<32 | 14, Atime: Time{15, 16}, Mtime: Time{17, 18}, Ctime: Time{19, 20},
	}
	attrWords = []uint32{1, 0o644, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}
	postWords = append([]uint32{1}, attrWords...)
	sampleWcc = Wcc{
		Before: PreAttr{OK: true, Size: 21<<32 | 22, Mtime: Time{23, 24}, Ctime: Time{25, 26}},
		After:  PostAttr{OK: true, Attr: sampleAttr},
	}
	wccWords = slices.Concat([]uint32{1, 21, 22, 23, 24, 25, 26}, postWords)
)

// sample is a fakeFS with something in every field.
func sample() *fakeFS {
	return &fakeFS{
		post: PostAttr{OK: true, Attr: sampleAttr}, wcc: sampleWcc, handle: []byte("new!"), text: "there",
		data: []byte("datum"), eof: true, done: FileSync, verf: 0x1111111122222222, calls: []string{},
	}
}

// args builds arguments: integers are words, uint64s hypers, strings and byte
// slices opaque; a SetAttr is a sattr3.
func args(values ...any) []byte {
	var w xdr.Writer
	for _, v := range values {
		switch v := v.(type) {
		case int:
			w.Uint32(uint32(v))
		case uint32:
			w.Uint32(v)
		case uint64:
			w.Uint64(v)
		case bool:
			w.Bool(v)
		case string:
			w.String(v)
		case []byte:
			w.Opaque(v)
		case SetAttr:
			for _, f := range []struct {
				set bool
				v   uint32
			}{{v.SetMode, v.Mode}, {v.SetUID, v.UID}, {v.SetGID, v.GID}} {
				if w.Bool(f.set); f.set {
					w.Uint32(f.v)
				}
			}
			if w.Bool(v.SetSize); v.SetSize {
				w.Uint64(v.Size)
			}
			for _, f := range []struct {
				how SetTime
				t   Time
			}{{v.SetAtime, v.Atime}, {v.SetMtime, v.Mtime}} {
				if w.Uint32(uint32(f.how)); f.how == SetToClient {
					w.Uint32(f.t.Sec)
					w.Uint32(f.t.Nsec)
				}
			}
		default:
			panic(fmt.Sprintf("argument %T", v))
		}
	}
	return w.Buf
}

// rpcCall is a call of a user on a board.
func rpcCall(proc uint32, args []byte) *sunrpc.Call {
	return &sunrpc.Call{
		Peer: netip.MustParseAddrPort("10.0.0.2:800"), Program: Number, Version: Version, Procedure: proc,
		Flavor: sunrpc.AuthSys, UID: 1000, GID: 1000, Args: xdr.NewReader(args),
	}
}

// call runs one call; the results come as words.
func run(t testing.TB, fs FS, proc uint32, args []byte) ([]uint32, sunrpc.Status) {
	t.Helper()
	return runCall(t, fs, rpcCall(proc, args))
}

func runCall(t testing.TB, fs FS, c *sunrpc.Call) ([]uint32, sunrpc.Status) {
	t.Helper()
	w := xdr.Writer{Buf: []byte("before--")}
	st := NewProgram(fs).Serve(context.Background(), c, &w)
	if string(w.Buf[:8]) != "before--" {
		t.Fatal("the reply overwrote what was before it")
	}
	if len(w.Buf)%4 != 0 {
		t.Fatalf("results of %d bytes", len(w.Buf)-8)
	}
	return toWords(w.Buf[8:]), st
}

func toWords(b []byte) (words []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		words = append(words, binary.BigEndian.Uint32(b))
	}
	return words
}

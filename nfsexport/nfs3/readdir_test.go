package nfs3

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// listing is a decoded reply of READDIR or READDIRPLUS.
type listing struct {
	size    int // of the results after the status
	dirinfo int // bytes of fileids, names and cookies
	names   []string
	cookies []uint64
	eof     bool
}

// list asks for a listing and decodes it by the book (RFC 1813 section 3.3.17).
func list(t testing.TB, fs FS, plus bool, cookie uint64, sizes ...any) (listing, Status) {
	t.Helper()
	proc := uint32(ProcReadDir)
	if plus {
		proc = ProcReadDirPlus
	}
	w := xdr.Writer{}
	a := args(append([]any{"dir", cookie, uint64(0)}, sizes...)...)
	if st := NewProgram(fs).Serve(context.Background(), rpcCall(proc, a), &w); st != sunrpc.Success {
		t.Fatalf("status %v", st)
	}
	r := xdr.NewReader(w.Buf)
	st := Status(r.Uint32())
	l := listing{size: r.Len()}
	post := func() {
		if r.Bool() {
			r.Fixed(84)
		}
	}
	post()
	if st != OK {
		return l, st
	}
	r.Uint64()
	for r.Bool() {
		at := r.Len()
		r.Uint64()
		l.names = append(l.names, strings.Clone(r.String(255)))
		l.cookies = append(l.cookies, r.Uint64())
		l.dirinfo += at - r.Len()
		if plus {
			post()
			if r.Bool() {
				r.Opaque(64)
			}
		}
	}
	l.eof = r.Bool()
	if !r.OK() || r.Len() != 0 {
		t.Fatalf("malformed listing, %d bytes left", r.Len())
	}
	return l, st
}

// manyEntries fills fs with n entries of different shapes.
func manyEntries(fs *fakeFS, n int) {
	for i := range n {
		e := Entry{FileID: uint64(i), Name: strings.Repeat("n", 1+i*7%255), Cookie: uint64(i + 1)}
		e.Attr.OK = i%3 != 0
		e.Handle = make([]byte, i%4*16)
		fs.list = append(fs.list, e)
	}
}

// TestListing reads a directory through replies of many sizes: every entry
// comes once, and no reply is larger than asked for.
func TestListing(t *testing.T) {
	for _, plus := range []bool{false, true} {
		for _, attrs := range []bool{true, false} {
			for _, max := range []int{600, 777, 1024, 4096, 32768, 1 << 20} {
				t.Run(fmt.Sprintf("plus %v attrs %v %d", plus, attrs, max), func(t *testing.T) {
					fs := sample()
					fs.post.OK = attrs
					manyEntries(fs, 500)
					sizes := []any{max}
					if plus {
						sizes = []any{max / 2, max}
					}
					var names []string
					cookie, replies := uint64(0), 0
					for {
						l, st := list(t, fs, plus, cookie, sizes...)
						if st != OK || l.size > max || l.size > maxDirReply {
							t.Fatalf("status %d, %d bytes", st, l.size)
						}
						if plus && l.dirinfo > max/2 && len(l.names) > 1 {
							t.Fatalf("%d bytes of directory information", l.dirinfo)
						}
						names = append(names, l.names...)
						if l.eof {
							break
						}
						if len(l.names) == 0 {
							t.Fatal("no progress")
						}
						cookie = l.cookies[len(l.cookies)-1]
						replies++
					}
					if len(names) != 500 {
						t.Fatalf("%d entries", len(names))
					}
					for i, e := range fs.list {
						if names[i] != e.Name {
							t.Fatalf("entry %d is %q", i, names[i])
						}
					}
					if max <= 4096 && replies == 0 {
						t.Error("all in one reply")
					}
				})
			}
		}
	}
}

// TestListingFillsUp: an entry that just fits is given, one that misses by a
// byte is not.
func TestListingFillsUp(t *testing.T) {
	fs := sample()
	fs.list = []Entry{{FileID: 1, Name: "name", Cookie: 1}, {FileID: 2, Name: "five5", Cookie: 2}}
	// Attributes, verifier, two entries of 4+8+8 and their names, end, eof.
	exact := 88 + 8 + (20 + 8) + (20 + 12) + 8
	if l, st := list(t, fs, false, 0, exact); st != OK || l.size != exact || len(l.names) != 2 || !l.eof {
		t.Errorf("%d: %+v, %d", exact, l, st)
	}
	if l, st := list(t, fs, false, 0, exact-1); st != OK || len(l.names) != 1 || l.eof {
		t.Errorf("%d: %+v, %d", exact-1, l, st)
	}
}

func TestTooSmall(t *testing.T) {
	fs := sample()
	manyEntries(fs, 1)
	for _, n := range []int{0, 1, 100, 107} {
		if _, st := list(t, fs, false, 0, n); st != ErrTooSmall {
			t.Errorf("READDIR of %d bytes: %d", n, st)
		}
		if _, st := list(t, fs, true, 0, 4096, n); st != ErrTooSmall {
			t.Errorf("READDIRPLUS of %d bytes: %d", n, st)
		}
	}
	// Of an empty directory, the end always fits if the frame does.
	if l, st := list(t, &fakeFS{}, false, 0, dirFixed); st != OK || !l.eof {
		t.Errorf("empty: %+v, %d", l, st)
	}
	// dircount is a wish: progress is made without it.
	if l, st := list(t, fs, true, 0, 0, 4096); st != OK || len(l.names) != 1 {
		t.Errorf("dircount 0: %+v, %d", l, st)
	}
}

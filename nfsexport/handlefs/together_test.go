package handlefs

import (
	"bytes"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// TestTogether: pieces that are written or read together come to what they would come
// to one by one, with a quota and without.
func TestTogether(t *testing.T) {
	for name, limit := range map[string]int64{"no quota": 0, "quota": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			w, q := newQuotaWorld(t, t.TempDir(), nfsexport.Space{Bytes: limit}, func(lower string) {
				write(t, filepath.Join(lower, "golden"), string(make([]byte, 30000)))
			})
			if limit == 0 {
				w.exp.Quota = nil
				w.publish(t)
			}
			f := w.lookup(t, "golden")
			r := rand.New(rand.NewPCG(1, uint64(limit)))
			file := make([]byte, 30000)
			attr := func() (a nfs3.Attr) {
				if st := w.GetAttr(&w.call, f, &a); st != nfs3.OK {
					t.Fatal(st)
				}
				return a
			}
			for round := range 200 {
				pieces := make([]nfs3.Piece, 1+r.IntN(6))
				for i := range pieces {
					data := bytes.Repeat([]byte{byte(round), byte(i)}, r.IntN(4000))
					pieces[i] = nfs3.Piece{Off: uint64(r.IntN(1000 * (30 + round))), Data: data}
					if r.IntN(9) == 0 {
						pieces[i].Off = math.MaxInt64 - uint64(len(data)/2)
					}
				}
				before := attr()
				var c nfs3.Wcc
				if st := w.WriteAll(&w.call, f, pieces, &c); st != nfs3.OK {
					t.Fatal(st)
				}
				for i, p := range pieces {
					end := int(p.Off) + len(p.Data)
					if far := end < 0; far != (p.Status == nfs3.ErrFBig) || far && p.N != 0 || !far && p.N != len(p.Data) {
						t.Fatalf("piece %d of %d at %d: %d, %v", i, len(p.Data), p.Off, p.N, p.Status)
					} else if far || len(p.Data) == 0 {
						continue
					}
					file = append(file, make([]byte, max(0, end-len(file)))...)
					copy(file[p.Off:], p.Data)
				}
				now := attr()
				if c.Before.Size != before.Size || c.Before.Ctime != before.Ctime || c.After.Attr != now || now.Size != uint64(len(file)) {
					t.Fatalf("%+v, and before it was %+v, after it %+v, of %d bytes", c, before, now, len(file))
				}
			}
			got, err := os.ReadFile(filepath.Join(w.exp.Dir, "golden"))
			if err != nil || !bytes.Equal(got, file) {
				t.Fatalf("the file has other bytes than were written (%d of %d), %v", len(got), len(file), err)
			}
			if limit > 0 {
				if there, used := w.onDisk(t), q.Used(); used.Files != there.Files || used.Bytes > there.Bytes+64<<10 || used.Bytes < there.Bytes {
					t.Errorf("counted %+v, and %+v is there", used, there)
				}
			}
			for range 200 {
				pieces := make([]nfs3.Piece, 1+r.IntN(6))
				for i := range pieces {
					pieces[i] = nfs3.Piece{Off: uint64(r.IntN(len(file) + 9000)), Data: make([]byte, r.IntN(9000))}
				}
				var a nfs3.PostAttr
				if st := w.ReadAll(&w.call, f, pieces, &a); st != nfs3.OK || a.Attr != attr() {
					t.Fatalf("%v, %+v", st, a)
				}
				for i, p := range pieces {
					want := file[min(int(p.Off), len(file)):]
					eof := len(p.Data) >= len(want)
					want = want[:min(len(want), len(p.Data))]
					if p.Status != nfs3.OK || !bytes.Equal(p.Data[:p.N], want) || p.EOF != eof {
						t.Fatalf("piece %d of %d at %d: %d, %v, %v", i, len(p.Data), p.Off, p.N, p.EOF, p.Status)
					}
				}
			}
		})
	}
}

// TestTogetherRefused: what is refused at once is done in no piece.
func TestTogetherRefused(t *testing.T) {
	w := newWorld(t, t.TempDir(), Options{}, true, func(lower string) {
		write(t, filepath.Join(lower, "f"), "golden")
	})
	f := w.lookup(t, "f")
	pieces := func() []nfs3.Piece { return []nfs3.Piece{{Data: []byte("one")}, {Off: 3, Data: []byte("two")}} }
	forged := append(bytes.Clone(f[:len(f)-1]), f[len(f)-1]^1)
	for _, tc := range []struct {
		name        string
		c           *nfs3.Call
		h           []byte
		read, write nfs3.Status
	}{
		{"forged", &w.call, forged, nfs3.ErrBadHandle, nfs3.ErrBadHandle},
		{"another board", &nfs3.Call{Peer: netip.MustParseAddrPort("192.0.2.99:700")}, f, nfs3.ErrAcces, nfs3.ErrAcces},
		{"a directory", &w.call, w.root, nfs3.ErrIsDir, nfs3.ErrIsDir},
		{"may only read", w.as(5, 5), f, nfs3.OK, nfs3.ErrAcces},
	} {
		var a nfs3.PostAttr
		var wcc nfs3.Wcc
		read, wrote := w.ReadAll(tc.c, tc.h, pieces(), &a), w.WriteAll(tc.c, tc.h, pieces(), &wcc)
		if read != tc.read || wrote != tc.write {
			t.Errorf("%s: %v and %v, want %v and %v", tc.name, read, wrote, tc.read, tc.write)
		}
	}
	if b, err := os.ReadFile(filepath.Join(w.exp.Dir, "f")); err != nil || string(b) != "golden" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

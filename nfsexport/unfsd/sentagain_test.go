package unfsd_test

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// sent is a WRITE of a piece of a file.
type sent struct {
	piece   int
	version uint32
	record  []byte
}

// told is an answer, or why there are no more.
type told struct {
	conn int
	xid  uint32
	st   nfs3.Status
	err  error
}

// serveTwo serves x alone, and gives its root and two connections of its client.
func serveTwo(t *testing.T, x nfsexport.Export) (root []byte, conns [2]*raw) {
	t.Helper()
	startServer(t, "/proc/self/exe", spec{Addr: serverAddr, Exports: []nfsexport.Export{x}})
	root, err := mountRoot(x.Client, x.Path)
	must(t, err)
	for i := range conns {
		conns[i], err = dial(x.Client, 2049, true)
		must(t, err)
		t.Cleanup(func() { conns[i].Close() })
	}
	return root, conns
}

// TestSentAgainAnyhow: a client writes to the pieces of a file over and over, to each when
// the WRITE before was answered, by two connections, and sends any of its last calls again,
// answered or not. What is in the file then is what the last WRITE that was answered wrote.
func TestSentAgainAnyhow(t *testing.T) {
	const calls, last = 400, 12
	// Small ones are done together, large ones go through a pipe; one is padded.
	sizes := []int{4096, 4096, 4096, 4096, 16 << 10, 20<<10 + 2, 64 << 10, 256 << 10}
	var offs []uint64
	whole := 0
	for _, n := range sizes {
		offs = append(offs, uint64(whole))
		whole += n
	}
	x := roots(t, 1, func(lower string) {
		must(t, os.WriteFile(filepath.Join(lower, "file"), make([]byte, whole), 0o644))
	})[0]
	root, conns := serveTwo(t, x)
	fh, err := conns[0].lookup(root, "file")
	must(t, err)

	answers := make(chan told, 1<<16)
	for i, c := range conns {
		go func() {
			for {
				b, err := c.reply()
				if err != nil {
					answers <- told{err: err}
					return
				}
				a := told{conn: i, xid: binary.BigEndian.Uint32(b)}
				if r, err := results(b, a.xid); err != nil {
					a.err = err
				} else if r.Len() > 0 { // not of NULL
					a.st = nfs3.Status(r.Uint32())
				}
				answers <- a
			}
		}()
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("by chance from %d", seed)
		}
	}()
	content := func(piece int, version uint32) []byte {
		word := binary.BigEndian.AppendUint64(nil, uint64(piece)<<32|uint64(version))
		return bytes.Repeat(word, sizes[piece]/8+1)[:sizes[piece]]
	}
	write := func(conn int, b []byte) {
		t.Helper()
		must(t, conns[conn].SetWriteDeadline(time.Now().Add(patience)))
		_, err := conns[conn].Write(b)
		must(t, err)
	}
	var count [len(conns)]uint32
	var flights [len(conns)]map[uint32]*sent
	var lately [len(conns)][]*sent
	for i := range flights {
		flights[i], count[i] = map[uint32]*sent{}, r.Uint32()
	}
	versions := make([]uint32, len(sizes))
	under := make([]bool, len(sizes)) // a call of the piece is not answered
	outstanding, again := 0, 0
	hear := func() {
		a := <-answers
		if a.err != nil || a.st != nfs3.OK {
			t.Fatalf("an answer to %x: %s, %v", a.xid, a.st, a.err)
		}
		if f := flights[a.conn][a.xid]; f != nil && under[f.piece] && f.version == versions[f.piece] {
			under[f.piece] = false
			outstanding--
		}
	}
	for n := 0; n < calls; {
		conn, piece := r.IntN(len(conns)), r.IntN(len(sizes))
		switch {
		case outstanding == len(sizes) || outstanding > 0 && r.IntN(4) == 0:
			hear()
		case !under[piece]:
			n++
			count[conn]++
			xid := bits.ReverseBytes32(count[conn]) // as a Linux client counts
			versions[piece]++
			how := 0
			if r.IntN(20) == 0 {
				how = 2 // FILE_SYNC
			}
			data := content(piece, versions[piece])
			f := &sent{piece, versions[piece], record(message(xid, nfs3.Number, nfs3.Version, nfs3.ProcWrite, cred{},
				args(fh, offs[piece], len(data), how, data)))}
			flights[conn][xid], lately[conn] = f, append(lately[conn], f)
			under[piece] = true
			outstanding++
			write(conn, f.record)
		case len(lately[conn]) > 0:
			some := lately[conn][max(0, len(lately[conn])-last):]
			again++
			write(conn, some[r.IntN(len(some))].record)
		}
	}
	for outstanding > 0 {
		hear()
	}
	for i := range conns { // what was sent before has been read
		write(i, record(message(0, nfs3.Number, nfs3.Version, nfs3.ProcNull, cred{}, nil)))
		for a := (told{xid: 1}); a.xid != 0; {
			if a = <-answers; a.err != nil {
				t.Fatal(a.err)
			}
		}
	}
	got, err := os.ReadFile(filepath.Join(x.Dir, "file"))
	must(t, err)
	if len(got) != whole {
		t.Fatalf("the file has %d bytes, want %d", len(got), whole)
	}
	for piece, n := range sizes {
		if part := got[offs[piece]:][:n]; !bytes.Equal(part, content(piece, versions[piece])) {
			t.Errorf("piece %d begins %x, of %d versions", piece, part[:8], versions[piece])
		}
	}
	if again < calls/4 {
		t.Errorf("only %d calls were sent again", again)
	}
	t.Logf("%d calls, %d sent again", calls, again)
}

package unfsd_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// sendAll sends calls of root's as one piece, numbered from first on.
func (c *raw) sendAll(first uint32, calls [][2]any) error {
	var out []byte
	for i, call := range calls {
		out = append(out, record(message(first+uint32(i), nfs3.Number, nfs3.Version, uint32(call[0].(int)), cred{}, call[1].([]byte)))...)
	}
	_, err := c.Write(out)
	return err
}

// answers reads so many replies, which come in any order, by their numbers: status and
// results.
func (c *raw) answers(n int) (map[uint32][]byte, error) {
	out := map[uint32][]byte{}
	for range n {
		b, err := c.reply()
		if err != nil {
			return out, err
		}
		xid := binary.BigEndian.Uint32(b)
		r, err := results(b, xid)
		if err != nil {
			return out, err
		}
		out[xid] = r.Rest()
	}
	return out, nil
}

func write4k(fh []byte, i int) [2]any {
	return [2]any{nfs3.ProcWrite, args(fh, uint64(i)*4096, 4096, 0, bytes.Repeat([]byte{'w'}, 4096))}
}

// TestChangedMeanwhile: a board reads golden files by calls that are done together and by
// large ones that are not copied, while it writes to them for the first time, cuts them
// off and removes them. It is told what is in them, or was, or that they are gone; never
// what lay in the server's memory.
func TestChangedMeanwhile(t *testing.T) {
	const rounds, size = 5, 256 << 10
	x := roots(t, 1, func(lower string) {
		for i := range rounds {
			must(t, os.WriteFile(filepath.Join(lower, fmt.Sprint("g", i)), bytes.Repeat([]byte{'g'}, size), 0o644))
		}
	})[0]
	root, conns := serveTwo(t, x)
	reads, writes := conns[0], conns[1]
	for i := range rounds {
		name := fmt.Sprint("g", i)
		fh, err := reads.lookup(root, name)
		must(t, err)
		var asked, done [][2]any
		for range 4 {
			for j := range 20 {
				asked = append(asked, [2]any{nfs3.ProcRead, args(fh, uint64(j*9000), 4096)})
			}
			asked = append(asked, [2]any{nfs3.ProcRead, args(fh, uint64(0), 128<<10)})
		}
		for j := range 16 {
			done = append(done, write4k(fh, 2*j))
		}
		done = append(done,
			[2]any{nfs3.ProcWrite, args(fh, uint64(4096), 128<<10, 0, bytes.Repeat([]byte{'w'}, 128<<10))},
			[2]any{nfs3.ProcSetAttr, args(fh, 0, 0, 0, 1, uint64(50000), 0, 0, 0)},
			[2]any{nfs3.ProcRemove, args(root, name)})
		var all sync.WaitGroup
		all.Go(func() {
			if err := writes.sendAll(1000, done); err != nil {
				t.Error(err)
			}
			if _, err := writes.answers(len(done)); err != nil {
				t.Error(err)
			}
		})
		must(t, reads.sendAll(1000, asked))
		answers, err := reads.answers(len(asked))
		all.Wait()
		must(t, err)
		for xid, b := range answers {
			st, data := nfs3.Status(b[3]), b
			if st == nfs3.OK {
				data = b[4+88+4+4+4:] // status, attributes, count, eof, length
				if b[7] == 0 {
					t.Fatalf("call %d has no attributes", xid)
				}
			} else if st != nfs3.ErrStale {
				t.Errorf("call %d: %s", xid, st)
			}
			if other := bytes.Trim(data, "gw\x00"); st == nfs3.OK && len(other) > 0 {
				t.Fatalf("call %d: %d bytes, with %.32q in them", xid, len(data), other)
			}
		}
	}
}

// TestCutAndSentAgain: a connection is cut after any number of answers, and all calls come
// again by another: the file has what they wrote, and what was done is not done twice.
func TestCutAndSentAgain(t *testing.T) {
	x := roots(t, 1, golden)[0]
	startServer(t, "/proc/self/exe", spec{Addr: serverAddr, Exports: []nfsexport.Export{x}})
	root, err := mountRoot(x.Client, x.Path)
	must(t, err)
	first := uint32(1)
	for _, cut := range []int{0, 1, 5, 9, 10, 11, 12} {
		name := fmt.Sprint("new", cut)
		c, err := dial(x.Client, 2049, true)
		must(t, err)
		st, r, err := c.nfs(nfs3.ProcCreate, args(root, name, 0, modeOnly(0o644)))
		if err != nil || st != nfs3.OK || r.Uint32() != 1 {
			t.Fatalf("create: %s, %v", st, err)
		}
		fh := r.Opaque(64)
		var calls [][2]any
		for i := range 9 {
			calls = append(calls, write4k(fh, i))
		}
		calls = append(calls,
			[2]any{nfs3.ProcLink, args(fh, root, name+"-link")},
			[2]any{nfs3.ProcMkdir, args(root, name+"-dir", modeOnly(0o755))},
			[2]any{nfs3.ProcRemove, args(root, fmt.Sprint("f", cut))})
		first += 100
		must(t, c.sendAll(first, calls))
		_, err = c.answers(cut)
		must(t, err)
		c.Close()
		// What still runs for the old connection is not answered: then it comes again.
		answered := map[uint32]bool{}
		for len(answered) < len(calls) {
			again, err := dial(x.Client, 2049, true)
			must(t, err)
			for i := range calls {
				if xid := first + uint32(i); !answered[xid] {
					must(t, again.sendAll(xid, calls[i:i+1]))
				}
			}
			must(t, again.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			for len(answered) < len(calls) {
				var b [4 + 24 + 4]byte // of a reply: its length, header and status
				if _, err := io.ReadFull(again, b[:]); err != nil {
					break
				}
				xid, st := binary.BigEndian.Uint32(b[4:]), nfs3.Status(binary.BigEndian.Uint32(b[28:]))
				if answered[xid] = true; xid-first >= uint32(len(calls)) || st != nfs3.OK {
					t.Fatalf("cut after %d: %s to call %d", cut, st, xid-first)
				}
				if _, err := io.CopyN(io.Discard, again, int64(binary.BigEndian.Uint32(b[:])&^(1<<31))-28); err != nil {
					break
				}
			}
			again.Close()
		}
		b, err := os.ReadFile(filepath.Join(x.Dir, name))
		if err != nil || !bytes.Equal(b, bytes.Repeat([]byte{'w'}, 9*4096)) {
			t.Errorf("cut after %d: %d bytes, %v", cut, len(b), err)
		}
	}
}

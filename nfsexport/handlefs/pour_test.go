package handlefs

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsload"
	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// pourCounter counts the WRITEs whose data is not in memory.
type pourCounter struct {
	*FS
	poured *atomic.Int64
}

func (f pourCounter) Write(c *nfs3.Call, fh []byte, off uint64, data []byte, how nfs3.Stable, w *nfs3.Wcc) (int, nfs3.Stable, nfs3.Status) {
	if c.Poured > 0 {
		f.poured.Add(1)
	}
	return f.FS.Write(c, fh, off, data, how, w)
}

// served serves w by TCP, on which it calls, until the test ends. Without pipes all data
// is copied.
func (w *world) served(t *testing.T, pipes bool) (*nfsload.Conn, *atomic.Int64) {
	t.Helper()
	w.exp.Client = netip.MustParseAddr("127.0.0.1")
	w.Withdraw(w.exp.ID)
	w.publish(t)
	run(t, "ip", "link", "set", "lo", "up")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	counter := pourCounter{w.FS, new(atomic.Int64)}
	var program sunrpc.Program = nfs3.NewProgram(counter)
	if !pipes {
		program = noData{program}
	}
	s := sunrpc.New(sunrpc.Config{Programs: []sunrpc.Program{program}})
	over := make(chan error, 1)
	go func() { over <- s.Serve(t.Context(), []net.Listener{l}, nil) }()
	c, err := nfsload.Dial(l.Addr().String())
	must(t, err)
	t.Cleanup(func() {
		c.Close()
		<-over
	})
	return c, counter.poured
}

// noData is a Program that wants all its arguments in memory.
type noData struct{ sunrpc.Program }

func (p noData) Plan(c *sunrpc.Call) sunrpc.Plan {
	plan := p.Program.Plan(c)
	plan.Data = 0
	return plan
}

// wrote is the answer to a WRITE.
type wrote struct {
	st   nfs3.Status
	n    int
	size uint64 // of the file, after it
}

// writeAs makes a WRITE.
func writeAs(t *testing.T, c *nfsload.Conn, uid uint32, fh []byte, off uint64, how nfs3.Stable, data []byte) (a wrote) {
	t.Helper()
	call := nfsload.NFS(nfs3.ProcWrite, func(w *xdr.Writer) {
		w.Opaque(fh)
		w.Uint64(off)
		w.Uint32(uint32(len(data)))
		w.Uint32(uint32(how))
		w.Opaque(data)
	})
	const atUID = 52 // behind the mark, six words of the header, the length, stamp and machine of the credential
	binary.BigEndian.PutUint32(call[atUID:], uid)
	binary.BigEndian.PutUint32(call[atUID+4:], uid)
	reply, err := c.Do(call)
	must(t, err)
	if !reply.Accepted {
		t.Fatal("WRITE is not accepted")
	}
	r := xdr.NewReader(reply.Results)
	a.st = nfs3.Status(r.Uint32())
	if r.Bool() { // before: size, two times
		r.Fixed(24)
	}
	if r.Bool() {
		r.Fixed(20) // type, mode, links, owner, group
		a.size = r.Uint64()
		r.Fixed(56)
	}
	if a.st == nfs3.OK {
		a.n = int(r.Uint32())
		r.Fixed(12)
	}
	if !r.OK() || r.Len() != 0 {
		t.Fatalf("the answer to WRITE, %s, is of another length", a.st)
	}
	return a
}

// TestPour: a large WRITE whose data does not come into memory does what one does whose
// data does: where there is room, where there is none from its middle on, where the quota
// ends, and where it is refused. What one leaves is in no other's file.
func TestPour(t *testing.T) {
	const size, mib = 128 << 10, 1 << 20
	full := func(t *testing.T, w *world, dir string) {
		fillDisk(t, dir)
		must(t, os.Truncate(dir+"/fill", fileSize(t, dir+"/fill")-2*mib-300<<10))
		unix.Sync()
	}
	for _, tc := range []struct {
		name string
		fs   string // "": as the test's directory
		mib  int64
		set  func(t *testing.T, w *world, dir string)
		uid  uint32
		mode uint32
		how  nfs3.Stable
		room func(t *testing.T, dir string) // makes some again
		st   nfs3.Status                    // of the last; the others are OK
		most int                            // WRITEs until then
	}{
		{name: "all goes", mode: 0o600, most: 12},
		{name: "stable", mode: 0o600, how: nfs3.FileSync, most: 6},
		{name: "full disk", fs: "ext4", mib: 32, set: full, mode: 0o600, st: nfs3.ErrNoSpc, most: 40},
		{name: "full disk stable", fs: "ext4", mib: 32, set: full, mode: 0o600, how: nfs3.DataSync, st: nfs3.ErrNoSpc, most: 40},
		{name: "quota of the file system", fs: "btrfs", mib: 128, set: func(t *testing.T, _ *world, dir string) {
			run(t, "btrfs", "quota", "enable", dir)
			run(t, "btrfs", "quota", "rescan", "-w", dir)
			run(t, "btrfs", "qgroup", "limit", "1500K", "0/5", dir)
		}, room: func(t *testing.T, dir string) {
			run(t, "btrfs", "qgroup", "limit", "none", "0/5", dir)
		}, mode: 0o600, st: nfs3.ErrDQuot, most: 40},
		{name: "quota", set: func(t *testing.T, w *world, _ string) {
			w.exp.Quota = new(nfsexport.Quota)
			w.exp.Quota.Limit(nfsexport.Space{Bytes: mib + 4096})
		}, mode: 0o600, st: nfs3.ErrDQuot, most: 9},
		{name: "of another", uid: 7, mode: 0o600, st: nfs3.ErrAcces, most: 1},
		{name: "set-id", uid: 7, mode: 0o6777, most: 4},
	} {
		for how, pipes := range map[string]bool{"poured": true, "copied": false} {
			t.Run(tc.name+" "+how, func(t *testing.T) {
				dir := t.TempDir()
				if tc.fs != "" {
					dir = newImage(t, tc.fs, dir, tc.mib).dir
				}
				w := newWorld(t, dir, Options{}, true, nil)
				t.Cleanup(func() { w.Close() }) // before what it lies on is unmounted
				w.create(t, &w.call, "f", tc.mode)
				w.create(t, &w.call, "other", 0o600)
				if tc.set != nil {
					tc.set(t, w, dir)
				}
				c, poured := w.served(t, pipes)
				f, other := w.lookupServed(t, "f"), w.lookupServed(t, "other")
				for range 2 { // the connection expects others like it
					writeAs(t, c, 0, other, 0, nfs3.Unstable, make([]byte, size))
				}
				before := poured.Load()
				var want []byte
				last, calls := wrote{}, 0
				for rnd := rand.New(rand.NewPCG(1, 2)); calls < tc.most && last.st == nfs3.OK; calls++ {
					data := make([]byte, size)
					for i := 0; i < size; i += 8 {
						binary.LittleEndian.PutUint64(data[i:], rnd.Uint64())
					}
					last = writeAs(t, c, tc.uid, f, uint64(len(want)), tc.how, data)
					if last.n > size || last.st != nfs3.OK && last.n > 0 {
						t.Fatalf("%d bytes, %s", last.n, last.st)
					}
					if want = append(want, data[:last.n]...); last.size != uint64(len(want)) {
						t.Errorf("the file has %d bytes, %d were written", last.size, len(want))
					}
				}
				if last.st != tc.st {
					t.Errorf("%d WRITEs, and the last says %s, want %s", calls, last.st, tc.st)
				}
				if n := int(poured.Load() - before); n != calls && pipes || n != 0 && !pipes {
					t.Errorf("%d of %d were poured", n, calls)
				}
				if tc.room != nil {
					tc.room(t, dir)
				}
				// Into another file goes its own data, whatever was left of those.
				own := bytes.Repeat([]byte("own file"), size/8)
				if a := writeAs(t, c, 0, other, 0, tc.how, own); a.st != nfs3.OK || a.n != size {
					t.Errorf("WRITE in place: %d bytes, %s", a.n, a.st)
				}
				for name, want := range map[string][]byte{"f": want, "other": own} {
					got, err := os.ReadFile(filepath.Join(w.ov.Root, name))
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s has %d bytes, and not the %d that were written; %v", name, len(got), len(want), err)
					}
				}
				var st unix.Stat_t
				if must(t, unix.Stat(filepath.Join(w.ov.Root, "f"), &st)); tc.name == "set-id" && st.Mode&0o7777 != 0o777 {
					t.Errorf("mode %o after a WRITE of somebody else's", st.Mode&0o7777)
				}
			})
		}
	}
}

func (w *world) lookupServed(t *testing.T, name string) []byte {
	t.Helper()
	call := w.call
	call.Peer = netip.AddrPortFrom(w.exp.Client, 700)
	var h []byte
	var a nfs3.PostAttr
	if st := w.Lookup(&call, w.root, name, &h, &a, &a); st != nfs3.OK {
		t.Fatalf("%s: %s", name, st)
	}
	return h
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Size()
}

package unfsd_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

const bigFile = 4 << 20

// amongAll is how many rounds a good client makes at least while all of the crowd is there.
const amongAll = 60

// golden fills a lower with a big file and some small ones.
func golden(lower string) {
	for i := range 64 {
		if err := os.WriteFile(filepath.Join(lower, fmt.Sprintf("f%d", i)), fmt.Appendf(nil, "file %d", i), 0o644); err != nil {
			panic(err)
		}
	}
	if err := os.WriteFile(filepath.Join(lower, "big"), make([]byte, bigFile), 0o644); err != nil {
		panic(err)
	}
}

// crowded is golden with a directory of 60,000 names, 14 MiB of them.
func crowded(lower string) {
	golden(lower)
	dir := filepath.Join(lower, "many")
	if err := os.Mkdir(dir, 0o755); err != nil {
		panic(err)
	}
	for i := range 60000 {
		if err := os.Link(filepath.Join(lower, "f0"), fmt.Sprintf("%s/%0240d", dir, i)); err != nil {
			panic(err)
		}
	}
}

// lookup gives the handle of a name.
func (c *raw) lookup(dir []byte, name string) ([]byte, error) {
	st, r, err := c.nfs(nfs3.ProcLookup, args(dir, name))
	if err != nil || st != nfs3.OK {
		return nil, fmt.Errorf("looking up %q: %v, %w", name, st, err)
	}
	return r.Opaque(64), nil
}

// goodClient works on its root until stop is closed, as a board does, and counts its rounds of
// six calls. Each call must be answered OK, in time. It gives the longest one.
func goodClient(x nfsexport.Export, stop chan struct{}, rounds *atomic.Int64) (longest time.Duration, err error) {
	root, err := mountRoot(x.Client, x.Path)
	if err != nil {
		return 0, err
	}
	c, err := dial(x.Client, 2049, true)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	do := func(proc uint32, a []byte) error {
		begin := time.Now()
		st, _, err := c.nfs(proc, a)
		longest = max(longest, time.Since(begin))
		if err != nil || st != nfs3.OK {
			return fmt.Errorf("a good client's %s: %v, %w", nfs3.ProcName(proc), st, err)
		}
		return nil
	}
	for n := 0; ; n++ {
		select {
		case <-stop:
			return longest, nil
		default:
		}
		name := fmt.Sprintf("made-%d", n)
		file, err := c.lookup(root, fmt.Sprintf("f%d", n%64))
		if err != nil {
			return longest, err
		}
		for _, step := range []struct {
			proc uint32
			args []byte
		}{
			{nfs3.ProcGetAttr, args(root)},
			{nfs3.ProcRead, args(file, uint64(0), 4096)},
			{nfs3.ProcCreate, args(root, name, 0, modeOnly(0o644))},
			{nfs3.ProcRemove, args(root, name)},
			{nfs3.ProcWrite, args(file, uint64(0), 5, 2, []byte("hello"))},
		} {
			if err := do(step.proc, step.args); err != nil {
				return longest, err
			}
		}
		rounds.Add(1)
	}
}

// crowd is the many who are in the way: their connections, closed by leave.
type crowd struct {
	mu    sync.Mutex
	conns []net.Conn // guarded by mu
	stop  chan struct{}
	wg    sync.WaitGroup
}

func (c *crowd) add(n net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, n)
}

func (c *crowd) leave() {
	close(c.stop)
	c.mu.Lock()
	for _, n := range c.conns {
		n.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// again does something over and over, by so many at once, until leave.
func (c *crowd) again(many int, f func(i int)) {
	for i := range many {
		c.wg.Go(func() {
			for n := i; ; n += many {
				select {
				case <-c.stop:
					return
				default:
					f(n)
				}
			}
		})
	}
}

// idle opens connections that say nothing, sixteen from an address; how many
// are still open is for the server to say.
func (c *crowd) idle(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		from := netip.AddrFrom4([4]byte{127, 20, byte(i / 16 >> 8), byte(i/16) | 1})
		if i/16&1 == 1 {
			from = netip.AddrFrom4([4]byte{127, 21, byte(i / 16 >> 8), byte(i / 16)})
		}
		nc, err := dial(from, 2049, false)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		c.add(nc)
	}
}

// slow asks for some bytes of a file again and again and reads nothing.
func (c *crowd) slow(t *testing.T, x nfsexport.Export, bytes int) {
	t.Helper()
	root, err := mountRoot(x.Client, x.Path)
	must(t, err)
	nc, err := dial(x.Client, 2049, true)
	must(t, err)
	c.add(nc)
	file, err := nc.lookup(root, "big")
	must(t, err)
	// Small buffers here, so that the server's must hold what is not read.
	must(t, nc.Conn.(*net.TCPConn).SetReadBuffer(4096))
	c.wg.Go(func() {
		for xid := uint32(100); ; xid++ {
			_, err := nc.Write(record(message(xid, nfs3.Number, nfs3.Version, nfs3.ProcRead, cred{}, args(file, uint64(0), bytes))))
			if err != nil {
				return // cut, or the end
			}
		}
	})
}

// list begins to list a large directory, again and again, with as many calls at
// once as it may have.
func (c *crowd) list(t *testing.T, x nfsexport.Export) {
	t.Helper()
	root, err := mountRoot(x.Client, x.Path)
	must(t, err)
	nc, err := dial(x.Client, 2049, true)
	must(t, err)
	c.add(nc)
	dir, err := nc.lookup(root, "many")
	must(t, err)
	c.wg.Go(func() { _, _ = io.Copy(io.Discard, nc) })
	c.wg.Go(func() {
		for xid := uint32(100); ; xid++ {
			_, err := nc.Write(record(message(xid, nfs3.Number, nfs3.Version, nfs3.ProcReadDir, cred{}, args(dir, uint64(0), uint64(0), 4096))))
			if err != nil {
				return // cut, or the end
			}
		}
	})
}

// half is a peer that says half a record and nothing more.
func (c *crowd) half(t *testing.T, i int) {
	t.Helper()
	nc, err := dial(netip.AddrFrom4([4]byte{127, 30, byte(i >> 8), byte(i) | 1}), 2049, false)
	must(t, err)
	c.add(nc)
	whole := record(message(1, nfs3.Number, nfs3.Version, nfs3.ProcGetAttr, cred{}, make([]byte, 60)))
	_, err = nc.Write(whole[:len(whole)/2])
	must(t, err)
}

// garbage floods the NFS port with records of noise.
func garbage(i int) {
	nc, err := dial(netip.AddrFrom4([4]byte{127, 40, byte(i >> 8), byte(i) | 1}), 2049, false)
	if err != nil {
		return // turned away: as it should be
	}
	defer nc.Close()
	noise := make([]byte, 512)
	for k := range noise {
		noise[k] = byte(k * (i + 7))
	}
	_ = nc.SetDeadline(time.Now().Add(time.Second))
	_, _ = nc.Write(record(noise))
	_, _ = nc.Write(noise)
	_, _ = io.CopyN(io.Discard, nc, 1)
}

// limitCase is one size of server and of crowd.
type limitCase struct {
	name                    string
	files                   uint64 // RLIMIT_NOFILE
	exports, idle           int
	slow, half, listers     int
	conns                   int64 // that must be open at once at least
	mostMemory, mostThreads int   // KiB, and number
}

// TestLimits: whatever a crowd does, a good client is served, each call within
// patience, and the server holds no more files, memory and threads than stated
// in docs/nfs.md. What the crowd held is given back.
func TestLimits(t *testing.T) {
	var lim unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Max < 20000 {
		t.Fatalf("this machine allows %d open files; the test needs 20,000 (ulimit -Hn)", lim.Max)
	}
	for _, c := range []limitCase{
		{"many files", 20000, 1000, 10000, 200, 100, 8, 9900, 1 << 20, 150},
		{"few files", 1024, 40, 2000, 20, 20, 8, 300, 512 << 10, 150},
	} {
		t.Run(c.name, func(t *testing.T) { testLimits(t, c) })
	}
}

func testLimits(t *testing.T, c limitCase) {
	exports := roots(t, c.exports, crowded)
	program, err := plain()
	must(t, err)
	s := startServer(t, program, spec{Addr: serverAddr, Files: c.files, Exports: exports})
	// Every export works, and holds what it holds for good.
	for _, x := range exports {
		if _, err := mountRoot(x.Client, x.Path); err != nil {
			t.Fatalf("export %s: %v", x.Path, err)
		}
	}
	quiet, listening := s.files(), s.sockets()

	stop := make(chan struct{})
	type outcome struct {
		longest time.Duration
		err     error
	}
	good := make(chan outcome, 1)
	var rounds atomic.Int64
	go func() {
		longest, err := goodClient(exports[0], stop, &rounds)
		good <- outcome{longest, err}
	}()

	var most atomic.Int64
	watch := &crowd{stop: make(chan struct{})}
	watch.again(1, func(int) {
		most.Store(max(most.Load(), int64(s.files())))
		time.Sleep(20 * time.Millisecond) // how often to look; nothing waits for it
	})
	all := &crowd{stop: make(chan struct{})}
	for i := range c.slow {
		all.slow(t, exports[1+i%(len(exports)-1)], []int{1 << 20, 64 << 10}[i%2])
	}
	for i := range c.listers {
		all.list(t, exports[1+i])
	}
	for i := range c.half {
		all.half(t, i)
	}
	all.again(4, garbage)
	all.again(4, func(i int) { // MOUNTs, most of them of what is not the caller's
		x := exports[i%len(exports)]
		_, _ = mountRoot(netip.AddrFrom4([4]byte{127, 50, byte(i >> 8), byte(i) | 1}), x.Path)
	})
	datagrams, err := net.Dial("udp", serverAddr+":111")
	must(t, err)
	all.add(datagrams)
	all.again(2, func(i int) {
		_, _ = datagrams.Write(message(uint32(i), 100000, 2, 3, cred{}, args(nfs3.Number, 3, 6, 0)))
	})
	all.idle(t, c.idle)

	// All of the crowd is there. The good client goes on among it, and longer while the server
	// has not taken in all connections; each round ends, well or with an error.
	before := rounds.Load()
	var end outcome
	for n := int64(0); end.err == nil && (n < amongAll || n < 10*amongAll && most.Load() < c.conns); n = rounds.Load() - before {
		select {
		case end = <-good:
			good <- end
		case <-time.After(20 * time.Millisecond):
		}
	}
	memory, threads := s.figure("VmHWM"), s.figure("Threads")
	held := most.Load()
	close(stop)
	end = <-good
	all.leave()
	watch.leave()
	t.Logf("%s: %d exports, %d idle and other connections: at most %d files (%d when quiet), %d MiB, %d threads; a good client made %d rounds, its longest call took %s",
		c.name, c.exports, c.idle+c.slow+c.half, held, quiet, memory>>10, threads, rounds.Load(), end.longest.Round(time.Millisecond))
	if end.err != nil {
		t.Error(end.err)
	}
	if end.longest > patience {
		t.Errorf("a good client made %d rounds, its longest call took %s", rounds.Load(), end.longest)
	}
	if held > int64(c.files) || held < c.conns {
		t.Errorf("the server had %d files open, want between %d and %d", held, c.conns, c.files)
	}
	if memory > c.mostMemory || threads > c.mostThreads {
		t.Errorf("the server took %d KiB and %d threads, want %d and %d at most", memory, threads, c.mostMemory, c.mostThreads)
	}
	// Its connections go; objects that were used stay in the cache.
	until := time.Now().Add(time.Minute)
	for s.sockets() > listening {
		if time.Now().After(until) {
			t.Fatalf("the crowd is gone, and %d sockets are still open; %d were before", s.sockets(), listening)
		}
		time.Sleep(50 * time.Millisecond)
	}
	// And who comes now is served.
	closed := make(chan struct{})
	close(closed)
	if _, err := goodClient(exports[2], closed, &rounds); err != nil {
		t.Error(err)
	}
}

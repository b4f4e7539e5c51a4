package sunrpc

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/xdr"
)

// cacheCall is a call that must not be done twice.
func cacheCall(port uint16, xid uint32, args string) *Call {
	return &Call{
		Peer: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), port), XID: xid,
		Program: 100003, Version: 3, Procedure: 12, Args: xdr.NewReader([]byte(args)),
	}
}

func openCache(t testing.TB, path string) *Cache {
	t.Helper()
	c, err := OpenCache(path, func() time.Time { return time.Unix(0, 12345) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// see asks the cache and checks what it knows.
func see(t *testing.T, c *Cache, call *Call, want sight, reply string) int {
	t.Helper()
	var w xdr.Writer
	call.Begun = 0
	slot, got := c.begin(call, &w)
	if got != want || string(w.Buf) != reply {
		t.Fatalf("got %d %q, want %d %q", got, w.Buf, want, reply)
	}
	return slot
}

func TestCache(t *testing.T) {
	c := openCache(t, "")
	slot := see(t, c, cacheCall(700, 1, "remove x"), fresh, "")
	see(t, c, cacheCall(700, 1, "remove x"), busy, "")
	see(t, c, cacheCall(701, 1, "remove x"), busy, "") // reconnected
	c.finish(slot, []byte("done"))
	see(t, c, cacheCall(701, 1, "remove x"), replay, "done")

	// Another number, arguments, procedure or client is another call.
	see(t, c, cacheCall(700, 2, "remove x"), fresh, "")
	see(t, c, cacheCall(700, 1, "remove y"), fresh, "")
	rmdir := cacheCall(700, 1, "remove x")
	rmdir.Procedure = 13
	see(t, c, rmdir, fresh, "")
	other := cacheCall(700, 1, "remove x")
	other.Peer = netip.MustParseAddrPort("10.0.0.3:700")
	see(t, c, other, fresh, "")

	// Forgotten: done again as if new. Abandoned: done again, and it knows.
	slot = see(t, c, cacheCall(700, 5, "jukebox"), fresh, "")
	c.forget(slot)
	again := cacheCall(700, 5, "jukebox")
	if slot = see(t, c, again, fresh, ""); again.Begun != 0 {
		t.Error("a forgotten call has begun")
	}
	c.abandon(slot)
	if slot = see(t, c, again, fresh, ""); again.Begun != 12345 {
		t.Error("an abandoned call has not begun")
	}
	// Adjourned: it comes with another number, once.
	c.adjourn(slot)
	for _, not := range []*Call{cacheCall(700, 6, "another"), cacheCall(700, 7, "jukebox")} {
		if not.XID == 7 { // another client's
			not.Peer = netip.MustParseAddrPort("10.0.0.4:700")
		}
		if see(t, c, not, fresh, ""); not.Begun != 0 {
			t.Errorf("another call has begun: %v", not)
		}
	}
	renamed := cacheCall(701, 8, "jukebox")
	slot = see(t, c, renamed, fresh, "")
	if renamed.Begun != 12345 {
		t.Error("a call that was told to come again has not begun")
	}
	if second := cacheCall(701, 9, "jukebox"); see(t, c, second, fresh, "") < 0 || second.Begun != 0 {
		t.Error("another one like it has begun, too")
	}
	c.adjourn(slot) // and again
	again = cacheCall(701, 10, "jukebox")
	if slot = see(t, c, again, fresh, ""); again.Begun != 12345 {
		t.Error("a call that was told twice to come again has not begun")
	}
	c.finish(slot, bytes.Repeat([]byte("x"), maxReply+1)) // cannot be kept
	if see(t, c, again, fresh, ""); again.Begun != 12345 {
		t.Error("a call with a long reply has not begun")
	}
}

// TestMain plays the process that gets killed when it is told a path.
func TestMain(m *testing.M) {
	if path := os.Getenv("SUNRPC_TEST_CACHE"); path != "" {
		c, err := OpenCache(path, func() time.Time { return time.Unix(0, 12345) })
		if err != nil {
			panic(err)
		}
		var w xdr.Writer
		done, _ := c.begin(cacheCall(700, 1, "done"), &w)
		c.finish(done, []byte("reply"))
		c.begin(cacheCall(700, 2, "begun"), &w)
		gone, _ := c.begin(cacheCall(700, 3, "forgotten"), &w)
		c.forget(gone)
		_, _ = os.Stdout.WriteString("ready\n")
		select {} // until the kill
	}
	os.Exit(m.Run())
}

// TestCacheKill kills a process with -9 and opens its file.
func TestCacheKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drc")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SUNRPC_TEST_CACHE="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 6)
	_, err = io.ReadFull(out, ready)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}

	c := openCache(t, path)
	see(t, c, cacheCall(800, 1, "done"), replay, "reply")
	begun := cacheCall(800, 2, "begun")
	slot := see(t, c, begun, fresh, "")
	if begun.Begun != 12345 {
		t.Errorf("begun %d", begun.Begun)
	}
	see(t, c, begun, busy, "")
	fresh3 := cacheCall(800, 3, "forgotten")
	if see(t, c, fresh3, fresh, ""); fresh3.Begun != 0 {
		t.Error("a forgotten call came back")
	}
	c.finish(slot, []byte("now"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, path)
	see(t, c, begun, replay, "now")
}

// TestCacheBound: more calls than there are slots, and running ones stay.
func TestCacheBound(t *testing.T) {
	c := openCache(t, "")
	running := see(t, c, cacheCall(700, 0, "running"), fresh, "")
	for i := range uint32(5 * cacheWays) {
		c.finish(see(t, c, cacheCall(700, 1+i, "x"), fresh, ""), []byte("r"))
	}
	see(t, c, cacheCall(700, 0, "running"), busy, "")
	see(t, c, cacheCall(700, 5*cacheWays, "x"), replay, "r")
	see(t, c, cacheCall(700, 5*cacheWays-100, "x"), replay, "r")
	see(t, c, cacheCall(700, 1, "x"), fresh, "")
	c.finish(running, nil)
	for i := range uint32(2 * cacheWays) { // all running: the rest goes without
		see(t, c, cacheCall(700, 1e6+i, "x"), fresh, "")
	}
	if slot := see(t, c, cacheCall(700, 2e6, "x"), fresh, ""); slot != noSlot {
		t.Errorf("slot %d", slot)
	}
}

func TestCacheDamaged(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	c := openCache(t, good)
	c.finish(see(t, c, cacheCall(700, 1, "x"), fresh, ""), []byte("reply"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(whole, []byte("reply")) - slotReply
	flip := func(i int) []byte {
		b := bytes.Clone(whole)
		b[i] ^= 1
		return b
	}
	for _, tc := range []struct {
		name  string
		file  []byte
		warns string
		begun int64
	}{
		{"half", whole[:len(whole)/2], "damaged", 0},
		{"magic", flip(1), "damaged", 0},
		{"text", []byte("hello"), "damaged", 0},
		{"empty", nil, "", 0},
		{"key", flip(at + 20), "", 0},
		{"reply", flip(at + slotReply), "", 12345}, // known to have begun
		{"reply length", flip(at + slotReplyLen + 3), "", 12345},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "drc")
			if err := os.WriteFile(path, tc.file, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := OpenCache(path, func() time.Time { return time.Unix(0, 999) })
			if (err != nil) != (tc.warns != "") || err != nil && !strings.Contains(err.Error(), tc.warns) {
				t.Errorf("error %v", err)
			}
			call := cacheCall(700, 1, "x")
			c.finish(see(t, c, call, fresh, ""), []byte("again"))
			if call.Begun != tc.begun {
				t.Errorf("begun %d, want %d", call.Begun, tc.begun)
			}
			see(t, c, call, replay, "again")
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCacheNoFile: whatever lies in the way, the cache works without a file.
func TestCacheNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(dir, "held")
	holder := openCache(t, held)
	for _, path := range []string{dir, filepath.Join(dir, "none", "drc"), filepath.Join(dir, "link"), held, "/dev/null"} {
		c, err := OpenCache(path, time.Now)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", path, err)
		}
		c.finish(see(t, c, cacheCall(1, 1, "x"), fresh, ""), []byte("r"))
		see(t, c, cacheCall(1, 1, "x"), replay, "r")
	}
	if err := holder.Close(); err != nil {
		t.Error(err)
	}
}

func TestCacheNoAllocation(t *testing.T) {
	c := openCache(t, filepath.Join(t.TempDir(), "drc"))
	w := xdr.Writer{Buf: make([]byte, 0, 512)}
	call, reply := cacheCall(700, 0, "remove x"), make([]byte, 260)
	if n := testing.AllocsPerRun(1000, func() {
		call.XID++
		slot, _ := c.begin(call, &w)
		c.finish(slot, reply)
		w.Truncate(0)
		c.begin(call, &w)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestOnce sends a call again over another connection, while it runs elsewhere
// and after the server was replaced.
func TestOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drc")
	f := newFake()
	cache := openCache(t, path)
	_, addr := start(t, Config{Programs: []Program{f}, Cache: cache})
	once := framed(message(77, procOnce))
	for range 3 {
		c := dial(t, addr)
		c.send(once...)
		words(t, c.reply(), 77, 1, ok, 0, 0, 0, 1)
	}
	if n := f.count.Load(); n != 1 {
		t.Errorf("done %d times", n)
	}
	// A call that is to be forgotten runs again.
	f.forget.Store(true)
	for i := range uint32(2) {
		c := dial(t, addr)
		c.send(framed(message(78, procOnce))...)
		words(t, c.reply(), 78, 1, ok, 0, 0, 0, 2+i)
	}
	// Begun elsewhere, and that server was killed.
	args := message(79, procOnce)
	call := &Call{Peer: netip.MustParseAddrPort("127.0.0.1:1"), XID: 79, Program: testNumber, Version: 3, Procedure: procOnce}
	var w xdr.Writer
	if _, s := cache.begin(call, &w); s != fresh {
		t.Fatal("known")
	}
	if err := unix.Flock(int(cache.file.f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	f2 := newFake()
	_, addr = start(t, Config{Programs: []Program{f2}, Cache: openCache(t, path)})
	c := dial(t, addr)
	c.send(once...)
	words(t, c.reply(), 77, 1, ok, 0, 0, 0, 1)
	c.send(framed(args)...)
	words(t, c.reply(), 79, 1, ok, 0, 0, 0, 1)
	if f2.begun.Load() != 12345 || f2.count.Load() != 1 {
		t.Errorf("begun %d, done %d times", f2.begun.Load(), f2.count.Load())
	}
}

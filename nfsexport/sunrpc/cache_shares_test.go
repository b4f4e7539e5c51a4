package sunrpc

import (
	"net/netip"
	"path/filepath"
	"testing"
)

// TestCacheShares: a client's storm costs another of its set no entries, also
// after a restart.
func TestCacheShares(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drc")
	c := openCache(t, path)
	quiet, loud := cacheCall(700, 1, "rename"), cacheCall(700, 0, "create")
	loud.Peer = neighbour(quiet.Peer)
	storm := func(c *Cache) {
		for range 10 * cacheWays {
			loud.XID++
			c.finish(see(t, c, loud, fresh, ""), []byte("made"))
		}
	}
	storm(c)
	for i := range uint32(cacheWays / 2) {
		quiet.XID = i
		c.finish(see(t, c, quiet, fresh, ""), []byte("renamed"))
	}
	kept := func(c *Cache) {
		t.Helper()
		for i := range uint32(cacheWays / 2) {
			quiet.XID = i
			see(t, c, quiet, replay, "renamed")
		}
		see(t, c, loud, replay, "made")
	}
	storm(c)
	kept(c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, path)
	storm(c)
	kept(c)
	set := &c.sets[setOf(loud.Peer.Addr())]
	if len(set.shares) != 2 || set.has(set.owners[0]) != cacheWays/2 {
		t.Errorf("the shares are %v", set.shares)
	}
}

// TestCacheSharesInTurn: two clients of one set that call in turn keep all of their
// shares, whatever lay where before.
func TestCacheSharesInTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drc")
	c := openCache(t, path)
	one, two := cacheCall(700, 0, "rename"), cacheCall(700, 0, "rename")
	two.Peer = neighbour(one.Peer)
	xids := map[*Call]uint32{}
	rename := func(call *Call) {
		xids[call]++
		call.XID = xids[call]
		c.finish(see(t, c, call, fresh, ""), []byte("renamed"))
	}
	kept := func() {
		t.Helper()
		for call, last := range xids {
			for i := range uint32(cacheWays / 2) {
				call.XID = last - i
				see(t, c, call, replay, "renamed")
			}
		}
	}
	for range cacheWays { // alone at first
		rename(one)
	}
	for range cacheWays / 2 { // a board that boots
		rename(two)
	}
	for range cacheWays {
		rename(one)
		rename(two)
	}
	kept()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, path)
	kept()
}

// setOf is the set that an address falls into.
func setOf(a netip.Addr) int {
	k := cacheKey{addr: a.As16()}
	return k.set()
}

// neighbour is another client that falls into the set of one.
func neighbour(one netip.AddrPort) netip.AddrPort {
	a := one.Addr().Next()
	for setOf(a) != setOf(one.Addr()) {
		a = a.Next()
	}
	return netip.AddrPortFrom(a, one.Port())
}

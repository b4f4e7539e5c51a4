package sunrpc

import (
	"cmp"
	"hash/crc32"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rubus/nfsexport/xdr"
)

// The Cache has a fixed number of slots in sets; a client address always falls
// into the same set, and those of one set have equal shares of it, so one client's
// storm costs no other the entries it needs.
const (
	cacheSets = 128
	cacheWays = 128
	noSlot    = -1
	// strangers is who owns the slots of those whom nobody knows, all together: or whoever has
	// many addresses would leave a board of their set no share to speak of.
	strangers = 0
)

// sight is what the Cache knows of a call.
type sight uint8

const (
	// fresh: never seen; or seen by a server that is gone, then Call.Begun says
	// when.
	fresh sight = iota
	// replay: done, and the reply was appended again.
	replay
	// busy: running at this moment.
	busy
)

// wayState is where the call of a slot is, in this process.
type wayState uint8

const (
	wayFree wayState = iota
	wayRunning
	wayMaybe // begun, and left without a reply
	wayDone
	// wayAdjourned: as wayMaybe, and then told "not now": a client asks again with
	// another number.
	wayAdjourned
)

// Cache is the duplicate request cache: it keeps replies, so that a call that
// is sent again is answered again instead of being done again. It lies in a
// file mapped into memory: what was stored there is still there after the
// process was killed. Calls are told apart by client address (a client that
// reconnects may come from another port), number, procedure and arguments.
type Cache struct {
	file      *cacheFile
	now       func() time.Time
	adjourned atomic.Bool // some call was, since the start
	sets      [cacheSets]cacheSet
}

// cacheSet is the part of the index for the clients that fall into it.
type cacheSet struct {
	mu     sync.Mutex
	turn   uint64 // of the last slot that was given away
	turns  [cacheWays]uint64
	tags   [cacheWays]uint64
	states [cacheWays]wayState
	owners [cacheWays]uint32 // hashes of the clients' addresses, where not free
	shares []share           // of the clients that have slots here
}

// share is how many slots of a set a client has.
type share struct {
	owner uint32
	n     int
}

// OpenCache opens the cache in the file at path, or makes one there; with path
// "" the cache dies with the process. It always gives a cache that works: what
// cannot be read back is dropped, and without a file the cache does without;
// err says so. The file should lie on a tmpfs such as /run: it is written on
// every call, and a cache that outlives the kernel is of no use.
func OpenCache(path string, now func() time.Time) (*Cache, error) {
	file, err := openCacheFile(path, cacheSets*cacheWays)
	c := &Cache{file: file, now: now}
	for i := range c.sets {
		c.sets[i].load(file, i*cacheWays)
	}
	return c, err
}

// Close unmaps the file. No call may use the cache any more.
func (c *Cache) Close() error { return c.file.close() }

// load reads the index of a set back from the file.
func (set *cacheSet) load(file *cacheFile, first int) {
	var found []foundKey
	for way := range cacheWays {
		if k, st, ok := file.key(first + way); ok && k.set() == first/cacheWays {
			found = append(found, foundKey{way, k, st})
		}
	}
	slices.SortFunc(found, func(a, b foundKey) int { return cmp.Compare(a.key.began, b.key.began) })
	for i := range found {
		f := &found[i]
		set.take(f.way, &f.key, f.key.owner(), wayMaybe)
		if f.state == slotDone {
			set.states[f.way] = wayDone
		}
	}
}

// foundKey is what one slot of a file holds.
type foundKey struct {
	way   int
	key   cacheKey
	state uint32
}

// begin looks a call up and, unless it is known, notes that it has begun. With
// fresh, the caller passes the slot to finish, abandon or forget; with replay
// it has the reply appended to w.
func (c *Cache) begin(call *Call, w *xdr.Writer) (slot int, seen sight) {
	args := call.Args.Rest()
	k := cacheKey{
		addr: call.Peer.Addr().As16(), xid: call.XID,
		program: call.Program, version: call.Version, procedure: call.Procedure,
		argsLen: uint32(len(args)), argsSum: crc32.Checksum(args, castagnoli()),
		began: c.now().UnixNano(),
	}
	n, tag := k.set(), k.tag()
	set := &c.sets[n]
	set.mu.Lock()
	defer set.mu.Unlock()
	for way, t := range set.tags {
		if t != tag || set.states[way] == wayFree {
			continue
		}
		slot = n*cacheWays + way
		old, _, ok := c.file.key(slot)
		if !ok || !old.same(&k) {
			continue
		}
		switch set.states[way] {
		case wayRunning:
			return noSlot, busy
		case wayDone:
			if reply, ok := c.file.reply(slot); ok {
				w.Buf = append(w.Buf, reply...)
				return noSlot, replay
			}
		}
		// The slot keeps the time of the first begin.
		set.states[way], call.Begun = wayRunning, old.began
		return slot, fresh
	}
	if c.adjourned.Load() {
		if at, ok := c.resume(set, n, &k); ok {
			k.began, call.Begun = at, at
		}
	}
	owner := k.owner()
	if call.who != nil && call.who.stranger.Load() {
		owner = strangers
	}
	way := set.victim(owner)
	if way < 0 {
		return noSlot, fresh // all are running: this one goes without
	}
	set.take(way, &k, owner, wayRunning)
	slot = n*cacheWays + way
	c.file.intend(slot, &k)
	return slot, fresh
}

// victim gives the slot to reuse for a client: a free one; his own oldest when he
// has his share; else the oldest of those who have more than theirs. Where all of
// these run it is the oldest of anybody; -1: all run. The oldest and not the next in
// some order: of two who call in turn each would get the slot he left last.
func (set *cacheSet) victim(owner uint32) int {
	has, clients := set.has(owner), len(set.shares)
	if has == 0 {
		clients++
	}
	fair, best, other := cacheWays/clients, -1, -1
	older := func(way, than int) bool { return than < 0 || set.turns[way] < set.turns[than] }
	for way, state := range set.states {
		switch state {
		case wayFree:
			return way
		case wayRunning:
			continue
		}
		if older(way, other) {
			other = way
		}
		o := set.owners[way]
		if older(way, best) && (has >= fair && o == owner || has < fair && o != owner && set.has(o) > fair) {
			best = way
		}
	}
	if best < 0 {
		return other
	}
	return best
}

// has is how many slots a client has.
func (set *cacheSet) has(owner uint32) int {
	for i := range set.shares {
		if set.shares[i].owner == owner {
			return set.shares[i].n
		}
	}
	return 0
}

// take gives a slot to a call.
func (set *cacheSet) take(way int, k *cacheKey, owner uint32, state wayState) {
	set.drop(way)
	set.turn++
	set.turns[way] = set.turn
	set.tags[way], set.states[way], set.owners[way] = k.tag(), state, owner
	for i := range set.shares {
		if set.shares[i].owner == owner {
			set.shares[i].n++
			return
		}
	}
	set.shares = append(set.shares, share{owner, 1})
}

// drop makes a slot free.
func (set *cacheSet) drop(way int) {
	if set.states[way] == wayFree {
		return
	}
	set.states[way] = wayFree
	for i := range set.shares {
		if s := &set.shares[i]; s.owner == set.owners[way] {
			if s.n--; s.n == 0 {
				last := len(set.shares) - 1
				*s = set.shares[last]
				set.shares = set.shares[:last]
			}
			return
		}
	}
}

// finish keeps the reply of a call that was done.
func (c *Cache) finish(slot int, reply []byte) {
	state := wayDone
	if !c.file.done(slot, reply) {
		state = wayMaybe // too long to keep: known to have begun
	}
	c.leave(slot, state)
}

// abandon leaves a call of which nobody knows whether it was done.
func (c *Cache) abandon(slot int) { c.leave(slot, wayMaybe) }

// adjourn is abandon for a call that was told "not now", and may have been done by a
// server that is gone: the call that comes instead of it has begun when this one did.
func (c *Cache) adjourn(slot int) {
	c.leave(slot, wayAdjourned)
	c.adjourned.Store(true)
}

// resume frees the slot of a call that was adjourned and is the same but for its number,
// and gives the time that it began at; ok is false without one. set.mu is held.
func (c *Cache) resume(set *cacheSet, n int, k *cacheKey) (began int64, ok bool) {
	for way, state := range set.states {
		if state != wayAdjourned {
			continue
		}
		slot := n*cacheWays + way
		old, _, ok := c.file.key(slot)
		if was := old.began; ok {
			if old.xid = k.xid; old.same(k) {
				c.file.free(slot)
				set.drop(way)
				return was, true
			}
		}
	}
	return 0, false
}

// forget drops a call that was not done.
func (c *Cache) forget(slot int) {
	set := &c.sets[slot/cacheWays]
	set.mu.Lock()
	defer set.mu.Unlock()
	c.file.free(slot)
	set.drop(slot % cacheWays)
}

func (c *Cache) leave(slot int, state wayState) {
	set := &c.sets[slot/cacheWays]
	set.mu.Lock()
	set.states[slot%cacheWays] = state
	set.mu.Unlock()
}

// cacheKey is what a call is known by, and when it began.
type cacheKey struct {
	addr                             [16]byte
	xid, program, version, procedure uint32
	argsLen, argsSum                 uint32
	began                            int64
}

// same compares all but the time.
func (k *cacheKey) same(o *cacheKey) bool {
	a, b := *k, *o
	a.began, b.began = 0, 0
	return a == b
}

// owner is a hash of the client's address.
func (k *cacheKey) owner() uint32 {
	h := uint32(2166136261) // FNV-1a
	for _, b := range k.addr {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}

// set is the set that the client falls into.
func (k *cacheKey) set() int {
	h := k.owner()
	return int((h ^ h>>16) % cacheSets)
}

// tag is a short form for quick comparison.
func (k *cacheKey) tag() uint64 {
	return uint64(k.xid)<<32 ^ uint64(k.argsSum) ^ uint64(k.procedure)<<24
}

// castagnoli is the polynomial for which processors have an instruction. The
// table is made once by the library.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

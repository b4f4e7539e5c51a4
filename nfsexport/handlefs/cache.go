package handlefs

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/commit"
	"rubus/nfsexport/handlefs/fhandle"
)

// cache is the bounded set of open objects, in shards. An object leaves it only
// when no call holds it, when it was removed, or with its export: so all calls
// on one handle meet in one object.
type cache struct {
	max    int64
	fds    atomic.Int64 // held by objects, in the cache or on their way out
	hand   atomic.Uint32
	ids    atomic.Uint64
	seed   maphash.Seed
	shards [32]shard
}

type shard struct {
	mu   sync.Mutex
	m    map[fhandle.Key]*object
	left map[fhandle.Key]*share // of objects that left with calls at work on them
	ring []*object              // what the clock hand goes round
	hand int
}

func (c *cache) init(maxFDs int) {
	c.max = int64(maxFDs)
	c.seed = maphash.MakeSeed()
	for i := range c.shards {
		c.shards[i].m, c.shards[i].left = map[fhandle.Key]*object{}, map[fhandle.Key]*share{}
	}
}

func (c *cache) shard(k *fhandle.Key) *shard {
	return &c.shards[maphash.Bytes(c.seed, k[:])%uint64(len(c.shards))]
}

// get gives the object of k below r, held, or nil.
func (c *cache) get(k *fhandle.Key, r *root) *object {
	s := c.shard(k)
	s.mu.Lock()
	obj := s.m[*k]
	if obj == nil || obj.root != r {
		s.mu.Unlock()
		return nil
	}
	obj.refs.Add(1)
	s.mu.Unlock()
	if !obj.used.Load() {
		obj.used.Store(true)
	}
	return obj
}

// insert adds obj, which comes held for its caller. When another call was first
// obj is closed and the other's object given, held.
func (c *cache) insert(obj *object) *object {
	s := c.shard(&obj.key)
	s.mu.Lock()
	old := s.m[obj.key]
	if old != nil && old.root == obj.root {
		old.refs.Add(1)
		s.mu.Unlock()
		obj.close()
		return old
	}
	if old != nil { // of an earlier mount of the same export
		s.remove(old)
	}
	if left := s.left[obj.key]; left != nil {
		obj.share = left
	}
	obj.slot = len(s.ring)
	s.ring = append(s.ring, obj)
	s.m[obj.key] = obj
	c.fds.Add(obj.fds())
	s.mu.Unlock()
	if old != nil {
		c.release(old)
	}
	return obj
}

// release gives back a held object.
func (c *cache) release(obj *object) {
	if obj.refs.Add(-1) == 0 {
		n := obj.fds()
		c.shard(&obj.key).ended(obj)
		obj.close()
		c.fds.Add(-n)
		if obj.gone.Load() {
			c.lost(&obj.key, obj.root)
		}
	}
}

// lost takes the object of k below r out, as it lost a name: its descriptors must not
// keep a removed file's space, nor a removed directory. Calls that hold it carry on; as
// long as they do its handle may be opened again, so when they end all begins anew.
func (c *cache) lost(k *fhandle.Key, r *root) {
	r.removalsOf(k).Add(1) // first: who opened it and is not in yet will see that
	c.drop(k)
}

// drop is lost for what is not known to have lost a name.
func (c *cache) drop(k *fhandle.Key) {
	s := c.shard(k)
	s.mu.Lock()
	obj := s.m[*k]
	if obj != nil {
		obj.gone.Store(true)
		s.remove(obj)
	}
	s.mu.Unlock()
	if obj != nil {
		c.release(obj)
	}
}

// dropObject is drop for an object the caller holds.
func (c *cache) dropObject(obj *object) {
	s := c.shard(&obj.key)
	s.mu.Lock()
	in := s.m[obj.key] == obj
	if in {
		s.remove(obj)
	}
	s.mu.Unlock()
	if in {
		c.release(obj)
	}
}

// forget takes out everything below r.
func (c *cache) forget(r *root) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		var gone []*object
		for _, obj := range s.ring {
			if obj.root == r {
				gone = append(gone, obj)
			}
		}
		for _, obj := range gone {
			s.remove(obj)
		}
		s.mu.Unlock()
		for _, obj := range gone {
			c.release(obj)
		}
	}
}

// remove takes obj out of the shard; its lock is held. The cache's reference
// passes to the caller. Calls that are at work on it go on counting in its share: so do
// those on the next object of the same handle, as long as one of these is left.
func (s *shard) remove(obj *object) {
	if obj.refs.Load() > 1 {
		obj.left, s.left[obj.key] = true, obj.share
		obj.share.left++
	}
	delete(s.m, obj.key)
	last := len(s.ring) - 1
	s.ring[obj.slot] = s.ring[last]
	s.ring[obj.slot].slot = obj.slot
	s.ring[last] = nil
	s.ring = slices.Delete(s.ring, last, last+1)
}

// ended is for an object that nobody holds any more.
func (s *shard) ended(obj *object) {
	if !obj.left {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if obj.share.left--; obj.share.left == 0 {
		delete(s.left, obj.key)
	}
}

// trim closes what was not used lately until the bound holds again.
func (fs *FS) trim() {
	c := &fs.cache
	for i := 0; i < 2*len(c.shards) && c.fds.Load() > c.max; i++ {
		s := &c.shards[c.hand.Add(1)%uint32(len(c.shards))]
		for _, obj := range s.idle() {
			fs.evict(obj)
		}
	}
}

// idle moves the clock hand a little and takes out what it finds unused.
func (s *shard) idle() (out []*object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range min(32, len(s.ring)) {
		if s.hand >= len(s.ring) {
			if s.hand = 0; len(s.ring) == 0 {
				break
			}
		}
		obj := s.ring[s.hand]
		if obj.refs.Load() == 1 && !obj.used.Swap(false) {
			s.remove(obj)
			if out = append(out, obj); len(out) == 4 {
				break
			}
			continue
		}
		s.hand++
	}
	return out
}

// evict closes an object that left the cache for want of room. A failed
// write-back is reported to descriptors that are open: so what is not yet
// stable is brought to disk first, else its failure could pass unseen.
func (fs *FS) evict(obj *object) {
	if fd := obj.rw.Load(); fd >= 0 && obj.dirty.Load() {
		if e := commit.Data(int(fd)); e != 0 && e != unix.EBADF {
			fs.syncFailed(obj.root, e)
		}
	}
	fs.cache.release(obj)
}

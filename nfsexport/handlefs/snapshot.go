package handlefs

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// snapshot is a directory read whole: names in the order of their cookies. It
// never changes.
type snapshot struct {
	names  string
	ents   []dirent
	parent uint64 // the fileid of ".."

	changes      uint64 // object.changes when it was read
	mtime, ctime unix.Timespec
}

type dirent struct {
	cookie uint64
	ino    uint64
	off    uint32 // of the name in names
	n      uint8
}

func (s *snapshot) name(d *dirent) string { return s.names[d.off:][:d.n] }

func (s *snapshot) bytes() int { return len(s.names) + 24*cap(s.ents) }

// fits says whether s is what obj holds now.
func (s *snapshot) fits(obj *object, st *unix.Stat_t) bool {
	return s.changes == obj.changes.Load() && s.mtime == st.Mtim && s.ctime == st.Ctim
}

// snapshot gives the directory of the call. A listing that begins always reads
// it; one that goes on takes the last, if nothing changed. The directory is
// locked for reading.
func (fs *FS) snapshot(o *op, cookie uint64) (*snapshot, unix.Errno) {
	var st unix.Stat_t
	if e := fstat(o.obj.fd, &st); e != 0 {
		return nil, e
	}
	if s := o.obj.snap.Load(); cookie != 0 && s != nil && s.fits(o.obj, &st) {
		return s, 0
	}
	s := &snapshot{changes: o.obj.changes.Load(), mtime: st.Mtim, ctime: st.Ctim}
	return s, s.read(o.obj.fd)
}

// dirBuf is how much of a directory is asked for at once.
const dirBuf = 64 << 10

func (s *snapshot) read(dir int) unix.Errno {
	dot := cname{'.'}
	fd, e := openat(dir, &dot[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if e != 0 {
		return e
	}
	defer unix.Close(fd)
	var names strings.Builder
	buf := make([]byte, dirBuf)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return errnoOf(err)
		}
		if n == 0 {
			break
		}
		s.parse(buf[:n], &names)
	}
	s.names = names.String()
	s.order()
	return 0
}

// parse takes the entries of one getdents64: inode number, offset, length of
// the entry (16 bits at 16), type, name with its NUL.
func (s *snapshot) parse(buf []byte, names *strings.Builder) {
	for len(buf) >= 19 {
		n := int(binary.NativeEndian.Uint16(buf[16:]))
		if n < 19 || n > len(buf) {
			return
		}
		ino, name := binary.NativeEndian.Uint64(buf), buf[19:n]
		buf = buf[n:]
		if i := slices.Index(name, 0); i >= 0 {
			name = name[:i]
		}
		switch string(name) {
		case ".":
		case "..":
			s.parent = ino
		default:
			s.ents = append(s.ents, dirent{ino: ino, off: uint32(names.Len()), n: uint8(len(name)), cookie: nameHash(name)})
			names.Write(name)
		}
	}
}

// order sorts by hash and makes the hashes cookies: different ones, above those
// of the dots. Equal hashes are numbered in the order of their names.
func (s *snapshot) order() {
	slices.SortFunc(s.ents, func(a, b dirent) int {
		if a.cookie != b.cookie {
			return cmp.Compare(a.cookie, b.cookie)
		}
		return cmp.Compare(s.name(&a), s.name(&b))
	})
	last := uint64(cookieDotDot)
	for i := range s.ents {
		d := &s.ents[i]
		d.cookie = max(d.cookie, last+1)
		last = d.cookie
	}
}

// nameHash is 62 bits of FNV-1a, mixed: a cookie must be positive as a signed
// number of 64 bits, which is what client kernels make of it. It must never
// change: clients hold cookies across our restarts.
func nameHash(name []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h >> 2
}

// maxSnapshots bounds the memory of the snapshots kept, in bytes.
const maxSnapshots = 64 << 20

// snapshots knows which objects keep a snapshot for a listing that goes on.
type snapshots struct {
	mu    sync.Mutex
	objs  []*object // the least recently used first
	total int
}

// keep keeps s with obj and lets go of the oldest when there are too many.
func (c *snapshots) keep(obj *object, s *snapshot) {
	if s.bytes() > maxSnapshots/2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(obj)
	obj.snap.Store(s)
	c.objs = append(c.objs, obj)
	for c.total += s.bytes(); c.total > maxSnapshots; {
		c.remove(c.objs[0])
	}
}

// drop lets go of obj's snapshot if it is s.
func (c *snapshots) drop(obj *object, s *snapshot) {
	if obj.snap.Load() != s {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(obj)
}

func (c *snapshots) remove(obj *object) {
	if s := obj.snap.Swap(nil); s != nil {
		c.total -= s.bytes()
		i := slices.Index(c.objs, obj)
		c.objs = slices.Delete(c.objs, i, i+1)
	}
}

// forget lets go of all snapshots below r.
func (c *snapshots) forget(r *root) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.objs) - 1; i >= 0; i-- {
		if c.objs[i].root == r {
			c.remove(c.objs[i])
		}
	}
}

package handlefs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/attrcache"
	"rubus/nfsexport/handlefs/commit"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/gate"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// ErrNotPublished: the FS knows no export of that ID.
var ErrNotPublished = errors.New("export is not published")

// ErrPreparing: the export has no mounted root yet.
var ErrPreparing = errors.New("export is being prepared")

// export is one row of the table: the published values, and the open root when
// they say Ready. It never changes; what changes is behind its pointers.
type export struct {
	nfsexport.Export
	root *root // nil: Preparing
	lost *atomic.Uint64
	gate *gate.Gate      // of the calls that change something
	tree *attrcache.Tree // the changes that calls make
}

// root is the open mount of one export.
type root struct {
	id       nfsexport.ID
	fd       int // the mount point: a real descriptor, open_by_handle_at needs one
	upper    int // -1: none
	index    int // see inUpper and openLayer; -1: none
	disk     *disk
	clones   bool // what is copied up shares the blocks of its layer
	mount    int32
	dev      uint64
	ino      uint64
	key      fhandle.Key
	fs       *FS
	layers   *layers     // nil: see Export.Layers
	spared   atomic.Bool // see spare
	image    uint64      // see shown
	indexed  atomic.Pointer[indexed]
	path     string // of fd when it was opened, see inPlace
	commits  *commit.Tree
	lost     *atomic.Uint64 // failed syncs, for the write verifier
	listings chan struct{}  // held by calls that hold a large listing
	flags    int64          // of the mount, as statfs(2) has them

	calls    *gate.Gate                  // shut for good by retire
	removals [removalSlots]atomic.Uint64 // see removalsOf
}

// removalSlots is how many counts of removals a root has.
const removalSlots = 256

// removalsOf counts how often what k stands for, or another thing, has lost a name, or was
// closed after that: what was opened before it went on is kept no longer than its call
// takes, see adopt.
func (r *root) removalsOf(k *fhandle.Key) *atomic.Uint64 {
	h := uint32(2166136261) // FNV-1a
	for _, b := range k.Kernel() {
		h = (h ^ uint32(b)) * 16777619
	}
	return &r.removals[h%removalSlots]
}

// Publish makes an export known, or gives a known one new values. With State
// Ready it opens Dir, which must be the root of an overlay mounted with
// nfs_export=on, and keeps it open until Withdraw; when another mount is there
// than before, the old one is let go of once no call uses it. It blocks on
// disk and, when a mount is exchanged, for calls on the old one.
func (fs *FS) Publish(x nfsexport.Export) error {
	if x.Activity == nil {
		return fmt.Errorf("publishing export %s: it has no Activity", x.ID)
	}
	e := &export{Export: x, lost: new(atomic.Uint64), gate: gate.New(), tree: new(attrcache.Tree)}
	if x.State == nfsexport.Ready {
		r, err := fs.openRoot(&x)
		if err != nil {
			return fmt.Errorf("publishing export %s: %w", x.ID, err)
		}
		r.lost = e.lost
		e.root = r
	}
	fs.mu.Lock()
	old := (*fs.table.Load())[x.ID]
	if old != nil {
		e.lost, e.gate, e.tree = old.lost, old.gate, old.tree
		if e.root != nil {
			e.root.lost = e.lost
		}
		if old.root != nil && e.root != nil && old.root.same(e.root) {
			e.root.close()
			e.root = old.root
		}
	}
	t := maps.Clone(*fs.table.Load())
	t[x.ID] = e
	fs.table.Store(&t)
	fs.mu.Unlock()
	if old != nil && old.root != nil && old.root != e.root {
		fs.retire(old.root)
	}
	return nil
}

// Withdraw forgets an export: its handles are answered NFS3ERR_STALE from now
// on. After it returns no descriptor below the export is open. It blocks until
// the calls that are running on the export have ended. An export that is not
// published is no error.
func (fs *FS) Withdraw(id nfsexport.ID) error {
	fs.mu.Lock()
	e := (*fs.table.Load())[id]
	t := maps.Clone(*fs.table.Load())
	delete(t, id)
	fs.table.Store(&t)
	fs.mu.Unlock()
	if e != nil && e.root != nil {
		fs.retire(e.root)
	}
	return nil
}

// Doubt says whether exports may be missing that were promised to a client. While
// they may, the good handle of an unknown export is answered NFS3ERR_JUKEBOX: its
// client asks again, where NFS3ERR_STALE would cost it its root.
func (fs *FS) Doubt(on bool) { fs.doubt.Store(on) }

// retire waits for the last call to leave r and closes everything below it.
func (fs *FS) retire(r *root) {
	_ = r.calls.Hold(context.Background()) // it cannot fail: a root goes once
	fs.cache.forget(r)
	fs.names.Forget(r.id)
	r.close()
}

// Expects says whether an export is for who has this address.
func (fs *FS) Expects(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, e := range *fs.table.Load() {
		if e.Client.IsValid() && e.Client.Unmap() == addr {
			return true
		}
	}
	return false
}

// RootHandle is the file handle of the export's root, for the reply to MNT. It
// fails with ErrNotPublished or ErrPreparing.
func (fs *FS) RootHandle(id nfsexport.ID) ([]byte, error) {
	e := (*fs.table.Load())[id]
	if e == nil {
		return nil, ErrNotPublished
	}
	if e.root == nil {
		return nil, ErrPreparing
	}
	var wire [nfs3.MaxHandle]byte
	n := fs.sealer.Seal(&e.root.key, &wire)
	return wire[:n:n], nil
}

// openRoot opens dir and checks that it can be served: the root of an overlay
// whose handles can be opened again.
func (fs *FS) openRoot(x *nfsexport.Export) (*root, error) {
	fd, err := unix.Open(x.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", x.Dir, err)
	}
	r := &root{fs: fs, id: x.ID, image: fs.shown.Image(x.Layers), fd: fd, upper: -1, index: -1, calls: gate.New(), listings: make(chan struct{}, rootListings)}
	if err := r.check(); err != nil {
		r.close()
		return nil, fmt.Errorf("%q cannot be served: %w", x.Dir, err)
	}
	r.commits = commit.Open(r.fd, x.Upper)
	r.openDisk(x)
	var path [unix.PathMax]byte
	if p, ok := fs.proc.Path(r.fd, &path); ok {
		r.path = string(p)
	}
	if r.layers, err = fs.layers.get(x.Layers); err != nil {
		// All is right without, but for the space it takes.
		fs.opts.Logger.Warn("directories that are looked at are copied into the board's upper", "export", x.ID, "name", x.Name, "err", err)
	}
	return r, nil
}

func (r *root) check() error {
	var fsstat unix.Statfs_t
	if err := unix.Fstatfs(r.fd, &fsstat); err != nil {
		return fmt.Errorf("asking for its file system: %w", err)
	}
	if fsstat.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return errors.New("it is not on an overlay (is the root mounted?)")
	}
	r.flags = fsstat.Flags
	var sx unix.Statx_t
	if err := unix.Statx(r.fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO, &sx); err != nil {
		return fmt.Errorf("statx: %w", err)
	}
	if sx.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 && sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return errors.New("it is not a mount point (is the root mounted?)")
	}
	var st unix.Stat_t
	if e := rawfs.Stat(r.fd, &st); e != 0 {
		return e
	}
	r.dev, r.ino = st.Dev, st.Ino
	var h fhandle.Kernel
	var e unix.Errno
	if r.mount, e = h.Of(r.fd, nil); e != 0 {
		return fmt.Errorf("taking its file handle (mounted with nfs_export=on?): %w", e)
	}
	if h.Type() != fhandle.Overlay || !r.key.Set(&h) {
		return fmt.Errorf("its file handle has type %#x and %d bytes (mounted with nfs_export=on?)", h.Type(), h.Len())
	}
	r.key.SetExport(r.id)
	again, e := h.Open(r.fd, unix.O_PATH)
	if e != 0 {
		return fmt.Errorf("opening it by handle: %w", e)
	}
	defer unix.Close(again)
	if e := rawfs.Stat(again, &st); e != 0 || st.Ino != r.ino || st.Dev != r.dev {
		return errors.New("its file handle opens something else")
	}
	return nil
}

// same says whether r and s are the same mount.
func (r *root) same(s *root) bool { return r.mount == s.mount && r.dev == s.dev && r.ino == s.ino }

func (r *root) close() {
	if r.commits != nil {
		r.commits.Close()
	}
	for _, fd := range []int{r.upper, r.index, r.fd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	r.fs.layers.put(r.layers)
}

// Traits are those of a server of our own.
func (fs *FS) Traits() nfsexport.Traits { return nfsexport.Traits{} }

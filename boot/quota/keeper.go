package quota

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"rubus/nfsexport"
	"rubus/overlay"
	"rubus/overlay/projquota"
)

// Way is how quotas are kept.
type Way string

// The ways there are.
const (
	// Kernel: the file system keeps project quotas.
	Kernel Way = "kernel"
	// Server: the NFS server counts.
	Server Way = "server"
)

// WayOf says how the quotas of new uppers below a directory are kept.
func WayOf(dir string) (Way, error) {
	ok, err := projquota.Enforced(dir)
	if ok {
		return Kernel, err
	}
	return Server, err
}

// Options are what a Keeper is made of.
type Options struct {
	Logger *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Hold makes the calls that change a root's files wait until release is called;
	// nil: they cannot be made to. It is asked for a root whose count failed.
	Hold func(context.Context, nfsexport.ID) (release func(), err error)
	// Count counts an upper; nil: overlay.Footprint.
	Count func(ctx context.Context, dir string) (overlay.Usage, error)
}

// Keeper keeps the quotas of roots. Its methods may be called from many goroutines at
// once; they may ask the file system something, and but for Run and CountDue they
// read no trees.
type Keeper struct {
	opt  Options
	wake chan struct{}

	fresh sync.Mutex        // held while a project is chosen and taken
	next  projquota.Project // where to look for a free one; guarded by fresh

	mu    sync.Mutex
	roots map[nfsexport.ID]*root
}

// root is one root that is offered.
type root struct {
	id      nfsexport.ID
	quota   *nfsexport.Quota
	dir     string
	project projquota.Project // 0: the server counts
	limit   nfsexport.Space
	set     bool // limit was said

	relief sync.Mutex // held while the kernel's limit is another

	// What follows is of the counts on disk.
	counting bool
	counted  bool // since there is a limit
	exact    bool
	failed   bool
	last     time.Time
	took     time.Duration
	mark     nfsexport.Mark
	refused  uint64
}

// New makes a Keeper of no roots.
func New(opt Options) *Keeper {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Count == nil {
		opt.Count = overlay.Footprint
	}
	return &Keeper{opt: opt, wake: make(chan struct{}, 1), next: firstProject, roots: map[nfsexport.ID]*root{}}
}

// Open is the quota of the root over an upper, for its export; it is the same one
// until Close. dir is the upper's directory.
func (k *Keeper) Open(id nfsexport.ID, dir string) *nfsexport.Quota {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.roots[id]
	if r == nil || r.dir != dir {
		r = &root{id: id, quota: new(nfsexport.Quota), dir: dir, project: k.projectOf(dir)}
		if r.project != 0 {
			r.quota.OnFull(func(do func()) { k.relieve(r, do) })
		}
		k.roots[id] = r
	}
	return r.quota
}

// Limit sets what a root may have, from its next call on; zeros are no limit. What it
// has stays. A root that is not open is no error.
func (k *Keeper) Limit(id nfsexport.ID, limit nfsexport.Space) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.roots[id]
	if r == nil {
		return nil
	}
	r.set = true
	if r.project != 0 {
		r.limit = limit
		return projquota.Limit(r.dir, r.project, projquota.Space(limit))
	}
	if r.limit == limit {
		return nil
	}
	if r.limit == (nfsexport.Space{}) {
		r.counted = false // until now nobody has counted
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
	r.limit = limit
	r.quota.Limit(limit)
	return nil
}

// Close forgets a root that is not offered any more.
func (k *Keeper) Close(id nfsexport.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.roots, id)
}

// Use is what a root has and may have.
type Use struct {
	Way   Way             `json:"way"`
	Limit nfsexport.Space `json:"limit"`
	Used  nfsexport.Space `json:"used"`
	// Known says that Used is right: else it is being counted.
	Known bool `json:"known"`
	// Full says that the board was refused something for want of room, and that there
	// is little room since; where the kernel counts, that there is hardly any room.
	Full bool `json:"full"`
}

// Use says what a root has; false: it has no limit, or is not open.
func (k *Keeper) Use(id nfsexport.ID) (Use, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.roots[id]
	if r == nil || r.limit == (nfsexport.Space{}) {
		return Use{}, false
	}
	if r.project == 0 {
		return Use{Way: Server, Limit: r.limit, Used: r.quota.Used(), Known: r.counted, Full: r.quota.Full()}, true
	}
	used, _, err := projquota.Used(r.dir, r.project)
	u := Use{Way: Kernel, Limit: r.limit, Used: nfsexport.Space(used), Known: err == nil}
	u.Full = tight(u.Limit.Bytes, u.Used.Bytes) || tight(u.Limit.Files, u.Used.Files)
	return u, true
}

// tight says that less than a hundredth of a limit is left.
func tight(limit, used int64) bool { return limit > 0 && used > limit-limit/100 }

package quota

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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

	fresh sync.Mutex // held while a project is chosen and taken

	mu    sync.Mutex
	next  projquota.Project // where to look for a free one
	roots map[nfsexport.ID]*root
}

// root is one root that is offered.
type root struct {
	id      nfsexport.ID
	quota   *nfsexport.Quota
	dir     string
	project projquota.Project // 0: the server counts
	limit   nfsexport.Space

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

// firstProject is where the projects of uppers begin: far from those that people
// number by hand.
const firstProject = 1 << 30

// Fresh is to be called with a new upper's directory, while there is nothing in its
// upper and work directories. Where the kernel keeps quotas it gives them a project;
// when that fails the server counts, and the board boots. An error says that one of
// the two directories has got a project: the upper cannot be used.
func (k *Keeper) Fresh(dir string) error {
	way, err := WayOf(dir)
	if way == Kernel {
		err = k.join(dir)
	}
	if err == nil {
		return nil
	}
	k.opt.Logger.Warn("a board's upper cannot have a project; the server counts what it takes", "upper", dir, "err", err)
	if way != Kernel {
		return nil
	}
	return errors.Join(projquota.Join(filepath.Join(dir, "upper"), 0), projquota.Join(filepath.Join(dir, "work"), 0))
}

func (k *Keeper) join(dir string) error {
	k.fresh.Lock()
	defer k.fresh.Unlock()
	p, err := k.free(dir)
	if err != nil {
		return err
	}
	// The work directory first: what it holds is moved to the upper, and that is
	// refused (EXDEV) where the upper alone is of a project.
	for _, sub := range []string{"work", "upper"} {
		if err := projquota.Join(filepath.Join(dir, sub), p); err != nil {
			return err
		}
	}
	// What an earlier project of that number was given.
	return projquota.Limit(dir, p, projquota.Space{})
}

// free finds a project that has nothing.
func (k *Keeper) free(dir string) (projquota.Project, error) {
	for range 1 << 20 {
		p := k.next
		k.next++
		used, _, err := projquota.Used(dir, p)
		if err != nil {
			return 0, err
		}
		if used == (projquota.Space{}) {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no free project from %d on", firstProject)
}

// Open is the quota of the root over an upper, for its export; it is the same one
// until Close. dir is the upper's directory.
func (k *Keeper) Open(id nfsexport.ID, dir string) *nfsexport.Quota {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.roots[id]
	if r == nil || r.dir != dir {
		r = &root{id: id, quota: new(nfsexport.Quota), dir: dir, project: k.projectOf(dir)}
		k.roots[id] = r
	}
	return r.quota
}

// projectOf is the project that the kernel keeps an upper's quota by; 0: it does not.
func (k *Keeper) projectOf(dir string) projquota.Project {
	if way, err := WayOf(dir); err != nil || way != Kernel {
		return 0
	}
	upper, err := projquota.Of(filepath.Join(dir, "upper"))
	work, errWork := projquota.Of(filepath.Join(dir, "work"))
	if err != nil || errWork != nil || upper != work {
		return 0
	}
	return upper
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

// Times of the counts on disk.
const (
	// often is how soon a root is counted again when its board changed something;
	// a count that takes long is made less often, so that it costs at most a
	// hundredth of the time.
	often = 10 * time.Minute
	// soon is for a root whose count is not exact, or whose board was refused
	// something since.
	soon  = 30 * time.Second
	share = 100
	// workers count at a time.
	workers = 4
)

// Run counts on disk until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-t.C:
			k.CountDue(ctx)
		case <-k.wake:
			k.CountDue(ctx)
		}
	}
}

// CountDue counts the roots whose count is due. It blocks for as long as that takes.
func (k *Keeper) CountDue(ctx context.Context) {
	var wg sync.WaitGroup
	sem := make(chan struct{}, workers)
	for _, r := range k.due() {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			k.count(ctx, r)
		})
	}
	wg.Wait()
}

// due marks the roots to be counted now.
func (k *Keeper) due() (out []*root) {
	now := k.opt.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.roots {
		if r.counting || r.project != 0 || r.limit == (nfsexport.Space{}) {
			continue
		}
		age := now.Sub(r.last)
		switch {
		case !r.counted && r.last.IsZero(), age < 0:
		case age < soon || age < share*r.took:
			continue
		case !r.counted || !r.exact:
		case !r.quota.Changed(r.mark) || age < often && r.quota.Refused() == r.refused:
			continue
		}
		r.counting = true
		out = append(out, r)
	}
	return out
}

func (k *Keeper) count(ctx context.Context, r *root) {
	begin := k.opt.Now()
	if r.failed && k.opt.Hold != nil { // by a board that moves its directories all the time
		if release, err := k.opt.Hold(ctx, r.id); err == nil {
			defer release()
		}
	}
	m := r.quota.Mark()
	u, err := k.opt.Count(ctx, r.dir)
	k.mu.Lock()
	defer k.mu.Unlock()
	r.counting, r.last = false, k.opt.Now()
	r.took = r.last.Sub(begin)
	if r.failed = err != nil; r.failed {
		if ctx.Err() == nil && !errors.Is(err, overlay.ErrMoved) {
			k.opt.Logger.Warn("what a board has cannot be counted; its quota is kept by what it wrote since the start", "upper", r.dir, "err", err)
		}
		return
	}
	r.exact = r.quota.Counted(m, nfsexport.Space(u))
	r.counted, r.mark, r.refused = true, r.quota.Mark(), r.quota.Refused()
}

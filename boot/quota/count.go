package quota

import (
	"context"
	"errors"
	"sync"
	"time"

	"rubus/nfsexport"
	"rubus/overlay"
)

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

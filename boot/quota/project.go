package quota

import (
	"errors"
	"fmt"
	"path/filepath"

	"rubus/overlay/projquota"
)

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

// HasProject says that the kernel counts what an upper has.
func (k *Keeper) HasProject(dir string) bool { return k.projectOf(dir) != 0 }

// Lift takes the kernel's limit from an upper until restore is called, for what the
// server itself does there: a root whose quota is used up could not be mounted, since
// overlayfs makes directories for itself. The board must not be at work meanwhile.
func (k *Keeper) Lift(dir string) (restore func()) {
	p := k.projectOf(dir)
	if p == 0 {
		return func() {}
	}
	_, was, err := projquota.Used(dir, p)
	if err == nil && was != (projquota.Space{}) {
		err = projquota.Limit(dir, p, projquota.Space{})
	}
	if err != nil {
		k.opt.Logger.Warn("a board's quota cannot be lifted", "upper", dir, "err", err)
		return func() {}
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, r := range k.roots {
			if r.dir == dir && r.set { // since, perhaps
				was = projquota.Space(r.limit)
			}
		}
		if err := projquota.Limit(dir, p, was); err != nil {
			k.opt.Logger.Error("a board's quota cannot be set again", "upper", dir, "err", err)
		}
	}
}

// What a call may take that takes away: a directory and its entry in the index, and
// so many directories above; xfs wants room for all that might be needed. A board that writes meanwhile may take it, each time: in
// all it gets no more than a part of its limit.
const (
	reliefBytes = 1 << 20
	reliefFiles = 64
	reliefPart  = 16
)

// relieve runs do while a root's project may have a little more than its limit.
func (k *Keeper) relieve(r *root, do func()) {
	r.relief.Lock()
	defer r.relief.Unlock()
	used, limit, err := projquota.Used(r.dir, r.project)
	over := func(used, limit, least int64) bool { return limit > 0 && used > limit+max(limit/reliefPart, least) }
	if err == nil && (over(used.Bytes, limit.Bytes, 8<<20) || over(used.Files, limit.Files, 1024)) {
		do()
		return
	}
	if err == nil {
		more := limit
		if limit.Bytes > 0 {
			more.Bytes = max(limit.Bytes, used.Bytes+reliefBytes)
		}
		if limit.Files > 0 {
			more.Files = max(limit.Files, used.Files+reliefFiles)
		}
		err = projquota.Limit(r.dir, r.project, more)
	}
	do()
	if err == nil {
		k.mu.Lock()
		if r.set { // what it may have now
			limit = projquota.Space(r.limit)
		}
		err = projquota.Limit(r.dir, r.project, limit)
		k.mu.Unlock()
	}
	if err != nil {
		k.opt.Logger.Warn("a board's quota cannot be changed for a removal", "upper", r.dir, "err", err)
	}
}

package images

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// How a store is locked.
const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX
)

// lock takes the store's lock; release may be called more than once. Every call has a
// lock of its own, also within one process: shared ones don't exclude each other.
// It blocks while others hold what excludes it, which they do for milliseconds.
func (s *Store) lock(ctx context.Context, how int) (release func(), err error) {
	fd, err := unix.Open(filepath.Join(s.dir, "lock"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the image store %q: %w", s.dir, err)
	}
	// flock can't be given a time to end at, so it is tried until it works.
	wait := time.Millisecond
	for {
		err := unix.Flock(fd, how|unix.LOCK_NB)
		switch err {
		case nil:
			released := false
			return func() {
				if !released {
					released = true
					unix.Close(fd)
				}
			}, nil
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
		default:
			unix.Close(fd)
			return nil, fmt.Errorf("locking the image store %q: %w", s.dir, err)
		}
		select {
		case <-ctx.Done():
			unix.Close(fd)
			return nil, fmt.Errorf("waiting for the lock of the image store %q: %w", s.dir, ctx.Err())
		case <-time.After(wait):
			wait = min(2*wait, 50*time.Millisecond)
		}
	}
}

// read locks the store shared, with no change left unfinished.
func (s *Store) read(ctx context.Context) (release func(), err error) {
	for {
		release, err := s.lock(ctx, shared)
		if err != nil {
			return nil, err
		}
		pending, err := s.journalled()
		if err == nil && !pending {
			return release, nil
		}
		release()
		if err != nil {
			return nil, err
		}
		// Whoever wrote the journal is dead: finish its change.
		if release, err = s.change(ctx); err != nil {
			return nil, err
		}
		release()
	}
}

// change locks the store exclusively, with no change left unfinished.
func (s *Store) change(ctx context.Context) (release func(), err error) {
	release, err = s.lock(ctx, exclusive)
	if err != nil {
		return nil, err
	}
	if err := s.replay(); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// Hold keeps every version and layer from being removed, and every tag from
// moving, until release is called. Resolve, List and the others that read may be called meanwhile; what changes
// the store would wait for the release forever. Hold it for as long as it takes
// to resolve a version, write its use down and mount it.
func (s *Store) Hold(ctx context.Context) (release func(), err error) { return s.read(ctx) }

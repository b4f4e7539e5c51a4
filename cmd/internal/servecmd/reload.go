package servecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/watch"
)

// reloader holds the configuration in force and replaces it: whole, or not at
// all. Its methods may be called at once from anywhere.
type reloader struct {
	paths config.Paths
	state string

	mu  sync.Mutex
	now *config.Snapshot
	// refused is why the files on disk are not what is in force; "" when they are.
	refused string
	check   func(*config.Snapshot) error // what the daemon refuses, beside the files
	apply   func(*config.Snapshot)
	log     *slog.Logger
	// hup gets SIGHUP, from the start: until it is asked for, it ends the process.
	hup chan os.Signal
}

// newReloader loads the files, or the last valid ones when those on disk are
// broken; then notice says so.
func newReloader(g *cli.Globals) (r *reloader, notice, err error) {
	r = &reloader{paths: config.Paths{Daemon: g.ConfigFile, Devices: g.DevicesFile}, hup: make(chan os.Signal, 1)}
	signal.Notify(r.hup, syscall.SIGHUP)
	r.now, notice, err = config.LoadOrLast(r.paths, g.State)
	if err != nil {
		return nil, nil, ui.Hint(err, "mend the file; \"rubus check\" reads it the same way")
	}
	if r.state = r.now.Daemon().State; g.State != "" {
		if r.state, err = g.StateDir(); err != nil {
			return nil, nil, err
		}
	}
	if notice != nil {
		r.refused = notice.Error()
	}
	return r, notice, nil
}

// snapshot is the configuration in force.
func (r *reloader) snapshot() *config.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// problem is why the files on disk are not in force; "" when they are.
func (r *reloader) problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// reload reads the files and puts them in force when they are valid. yes lets
// pass a file that drops most devices. On an error nothing has changed.
func (r *reloader) reload(yes bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := config.Load(r.paths)
	if err == nil && !yes {
		err = config.Guard(r.now, next)
	}
	if err == nil {
		err = r.check(next)
	}
	if err != nil {
		r.refused = err.Error()
		var drop *config.DropError
		if errors.As(err, &drop) {
			return ui.Hint(err, "if that is meant: rubus reload --yes")
		}
		return err
	}
	r.refused = ""
	if err := config.SaveLast(r.state, next); err != nil {
		r.log.Warn("the valid configuration cannot be kept for the next start", "err", err)
	}
	same := next.Same(r.now)
	r.now = next
	r.apply(next)
	if !same {
		r.log.Info("configuration read again", "devices", len(next.Devices()))
	}
	return nil
}

// run reloads when the files change and on SIGHUP, until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	defer signal.Stop(r.hup)
	w, err := watch.New(watch.Settle, r.log, r.paths.Daemon, r.paths.Devices)
	if err != nil {
		// No reason to leave boards without a server.
		r.log.Error("edits are not noticed; say \"rubus reload\" after one", "err", err)
	} else {
		go func() { _ = w.Run(ctx, func() { r.try("the file changed") }) }()
	}
	for {
		select {
		case <-r.hup:
			r.try("SIGHUP")
		case <-ctx.Done():
			return nil
		}
	}
}

// try reloads and logs what is wrong.
func (r *reloader) try(why string) {
	if err := r.reload(false); err != nil {
		r.log.Error("the configuration is refused; the one in force stays", "why", why, "err", fmt.Sprint(err))
	}
}

// start puts the loaded configuration in force and keeps it for later starts,
// unless it is itself what was kept.
func (r *reloader) start(log *slog.Logger, check func(*config.Snapshot) error, apply func(*config.Snapshot)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log, r.check, r.apply = log, check, apply
	if r.refused == "" {
		if err := config.SaveLast(r.state, r.now); err != nil {
			log.Warn("the valid configuration cannot be kept for the next start", "err", err)
		}
	}
	apply(r.now)
}

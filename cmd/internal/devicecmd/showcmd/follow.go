package showcmd

import (
	"context"
	"encoding/json"
	"time"

	"rubus/boot/flight"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
)

const (
	// followEvery is how often the daemon is asked for more.
	followEvery = time.Second
	// lastLook is how long it may take to answer when the user has seen enough.
	lastLook = 2 * time.Second
)

// follower shows the latest boot of a board and all that comes.
type follower struct {
	g *cli.Globals
	// ask gives the record of a boot; 0: the latest.
	ask func(ctx context.Context, n int) (control.BootLog, error)

	boot, seen int    // the boot that is shown, and how many of its events were
	said       string // its verdict
}

// run shows what there is at each tick, and once more when ctx ends: a Ctrl-C is how this
// ends, and what was heard until then is shown.
func (f *follower) run(ctx context.Context, ticks <-chan time.Time) error {
	for {
		if err := f.round(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
			defer cancel()
			_ = f.round(last) // the daemon may have ended by the same Ctrl-C
			return nil
		case <-ticks:
		}
	}
}

// round shows what has come since the one before, of the boots before the latest, too.
func (f *follower) round(ctx context.Context) error {
	l, err := f.ask(ctx, 0)
	if control.IsKind(err, control.KindNotFound) { // not heard of yet
		return nil
	}
	if err != nil {
		return err
	}
	if f.boot != 0 && l.Timeline.N != f.boot {
		// The record of so old a boot may be gone; what is there goes on.
		if before, err := f.ask(ctx, f.boot); err == nil {
			if err := f.show(before); err != nil {
				return err
			}
		}
	}
	return f.show(l)
}

// show prints what is new in a boot's record.
func (f *follower) show(l control.BootLog) error {
	if l.Timeline.N != f.boot {
		f.boot, f.seen, f.said = l.Timeline.N, 0, ""
		if !f.g.JSON {
			printHead(f.g, l)
		}
	}
	for _, e := range l.Timeline.Events[min(f.seen, len(l.Timeline.Events)):] {
		if f.g.JSON {
			if err := json.NewEncoder(f.g.Stdout).Encode(e); err != nil {
				return err
			}
		} else {
			printEvent(f.g, l.Timeline.Begin, e)
		}
	}
	f.seen = len(l.Timeline.Events)
	if v := l.Verdict; !f.g.JSON && v.Grade != flight.Open && v.Text != f.said {
		f.said = v.Text
		printVerdict(f.g, v)
	}
	return nil
}

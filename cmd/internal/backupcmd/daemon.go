package backupcmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"rubus/boot"
	"rubus/boot/backup"
	"rubus/boot/phase"
	"rubus/boot/writes"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/config/device"
	"rubus/nfsexport"
)

// holder holds boards: through the daemon, or, where none runs, by seeing to it that
// none starts.
func holder(g *cli.Globals, state string) func(context.Context, device.Serial) (context.Context, func() error, error) {
	return func(ctx context.Context, s device.Serial) (context.Context, func() error, error) {
		held, release, err := g.Daemon().Hold(ctx, s)
		switch {
		case control.IsKind(err, control.KindNotFound):
			return ctx, func() error { return nil }, nil // never seen: nobody writes
		case err == nil:
			return held, func() error { return gaveWay(release()) }, nil
		case !control.IsKind(err, control.KindNotRunning):
			return nil, nil, gaveWay(err)
		}
		unlock, err := cli.StillBoard(state, s)
		if err != nil {
			return nil, nil, err
		}
		return ctx, func() error { unlock(); return nil }, nil
	}
}

// gaveWay says of an error that the board is to be held again.
func gaveWay(err error) error {
	if control.IsKind(err, control.KindBoots) {
		return writes.ErrBoots
	}
	return err
}

// nobody is what a Fleet is given where no daemon runs: it offers nothing, and knows
// nothing of the link, so a board that was up stays up.
type nobody struct{}

func (nobody) Publish(nfsexport.Export) error { return nil }
func (nobody) Withdraw(nfsexport.ID) error    { return nil }
func (nobody) Doubt(bool)                     {}
func (nobody) Hold(context.Context, nfsexport.ID) (func(), error) {
	return func() {}, nil
}
func (nobody) Traits() nfsexport.Traits                             { return nfsexport.Traits{} }
func (nobody) Addresses(device.MAC) ([]netip.Addr, error)           { return nil, nil }
func (nobody) OnLink(netip.Addr) bool                               { return true }
func (nobody) Owner(context.Context, netip.Addr) (device.MAC, bool) { return device.MAC{}, false }
func (nobody) Silent(context.Context, netip.Addr, device.MAC) (bool, error) {
	return false, errors.New("no daemon runs")
}

// place is where boards are brought back to: the daemon, or the disk alone.
type place struct {
	g      *cli.Globals
	fleet  *boot.Fleet // nil: a daemon runs
	state  string
	unlock func()
}

// openPlace finds out whether a daemon runs, and where none does, keeps one from
// starting.
func openPlace(ctx context.Context, g *cli.Globals, o backup.ReadOptions) (*place, error) {
	p := &place{g: g, state: o.State, unlock: func() {}}
	_, err := g.Daemon().Status(ctx)
	if !control.IsKind(err, control.KindNotRunning) {
		return p, err
	}
	if p.unlock, err = cli.LockState(o.State); err != nil {
		return nil, err
	}
	p.fleet = boot.New(boot.Options{State: o.State, Store: o.Store, Exporter: nobody{}, Neighbours: nobody{}, Logger: slog.New(slog.DiscardHandler)})
	if err := p.fleet.Load(); err != nil {
		p.unlock()
		return nil, err
	}
	return p, nil
}

// isUp says why a board may not be given another root: it is up, or nobody can tell.
func (p *place) isUp(ctx context.Context, s device.Serial) (string, error) {
	if p.fleet != nil {
		if st, ok := p.fleet.Board(s); ok && st.Up != phase.UpNo {
			return "it was up when the daemon stopped", nil
		}
		return "", nil
	}
	b, err := p.g.Daemon().Board(ctx, s)
	if control.IsKind(err, control.KindNotFound) || err == nil && b.Up == "no" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if b.Up == "unknown" {
		return fmt.Sprintf("it may be up: nobody can tell (%s)", b.Phase), nil
	}
	return fmt.Sprintf("it is up (%s)", b.Phase), nil
}

func (p *place) stop(ctx context.Context, s device.Serial) error {
	if p.fleet != nil {
		return p.fleet.Stop(ctx, s)
	}
	return p.g.Daemon().Stop(ctx, s)
}

// take implements backup.TakeIn.
func (p *place) take(ctx context.Context, s device.Serial, stage string) (writes.TakenIn, error) {
	if p.fleet == nil {
		t, err := p.g.Daemon().TakeIn(ctx, s, stage)
		return writes.TakenIn(t), err
	}
	dir, ok := backup.TakeInDir(p.state, stage, s)
	if !ok {
		return writes.TakenIn{}, fmt.Errorf("%q is no stage of a restore", stage)
	}
	return p.fleet.TakeIn(ctx, s, dir)
}

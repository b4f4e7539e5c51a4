package cli

import (
	"context"
	"time"

	"rubus/cmd/internal/control"
)

// Daemon is a client of the running daemon.
func (g *Globals) Daemon() *control.Client { return control.NewClient(g.ControlSocket()) }

// Did tells the daemon, for its log, of a change that this process made. Without
// a daemon there is nobody to tell; the change is made either way.
func (g *Globals) Did(ctx context.Context, verb string, what ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := g.Daemon().Did(ctx, verb, what...); err != nil && !control.IsKind(err, control.KindNotRunning) {
		g.Notef("warning: the daemon's log has no line of this: %v", err)
	}
}

package handlefs

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// gate holds up the calls that change an export's files. A call that finds it
// shut is answered NFS3ERR_JUKEBOX: a Linux client asks again after 5 seconds, and
// its program waits without an error.
type gate struct {
	// inside counts calls that change something; shut is added while the gate
	// is held.
	inside atomic.Int64
	empty  chan struct{}
}

const shut = 1 << 40

func newGate() *gate { return &gate{empty: make(chan struct{}, 1)} }

func (g *gate) enter() bool {
	if g.inside.Add(1) < shut {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.inside.Add(-1) == shut {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// hold shuts the gate and waits for those inside. One holds at a time.
func (g *gate) hold(ctx context.Context) error {
	for {
		n := g.inside.Load()
		if n >= shut {
			return errors.New("they are held already")
		}
		if g.inside.CompareAndSwap(n, n+shut) {
			break
		}
	}
	for g.inside.Load() != shut {
		select {
		case <-g.empty:
		case <-ctx.Done():
			g.open()
			return ctx.Err()
		}
	}
	return nil
}

func (g *gate) open() { g.inside.Add(-shut) }

// Hold makes the calls that change files of an export wait, without an error for
// their programs, until release is called; reading goes on. When it returns no such
// call is running: what the export shows does not change, but by who holds it, and
// that is seen at once. It blocks for as long as
// a call that is under way takes. An export that is not published has no calls.
func (fs *FS) Hold(ctx context.Context, id nfsexport.ID) (release func(), err error) {
	e, err := fs.hold(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("holding the changes of export %s: %w", id, err)
	}
	if e == nil {
		return func() {}, nil
	}
	change := e.tree.Change() // nothing is remembered while somebody else may change files
	var done atomic.Bool
	return func() {
		if done.CompareAndSwap(false, true) {
			change.End()
			e.gate.open()
		}
	}, nil
}

// hold shuts the gate of an export, and gives the export; nil: it is not published. It
// may be withdrawn and published anew while the calls inside are waited for.
func (fs *FS) hold(ctx context.Context, id nfsexport.ID) (*export, error) {
	for {
		e := (*fs.table.Load())[id]
		if e == nil {
			return nil, nil
		}
		if err := e.gate.hold(ctx); err != nil {
			return nil, err
		}
		if now := (*fs.table.Load())[id]; now != nil && now.gate == e.gate {
			return now, nil
		}
		e.gate.open()
	}
}

// beginChange is begin for calls that change something: they wait while the export's
// changes are held.
func (fs *FS) beginChange(c *nfs3.Call, fh []byte) (*op, nfs3.Status) {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return nil, st
	}
	if !o.exp.gate.enter() {
		o.end()
		return nil, nfs3.ErrJukebox
	}
	o.changing = true
	return o, nfs3.OK
}

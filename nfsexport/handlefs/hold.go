package handlefs

import (
	"context"
	"fmt"
	"sync/atomic"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

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
			e.gate.Open()
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
		if err := e.gate.Hold(ctx); err != nil {
			return nil, err
		}
		if now := (*fs.table.Load())[id]; now != nil && now.gate == e.gate {
			return now, nil
		}
		e.gate.Open()
	}
}

// beginChange is begin for calls that change something. While the export's changes are
// held it is answered NFS3ERR_JUKEBOX: a Linux client asks again after 5 seconds, and
// its program waits without an error.
func (fs *FS) beginChange(c *nfs3.Call, fh []byte) (*op, nfs3.Status) {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return nil, st
	}
	if !o.exp.gate.Enter() {
		o.end()
		return nil, nfs3.ErrJukebox
	}
	o.changing = true
	return o, nfs3.OK
}

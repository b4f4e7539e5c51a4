package servecmd

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"rubus/boot"
	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/sunrpc"
)

// mounter lets the fleet decide on MOUNTs.
type mounter struct {
	fleet   *boot.Fleet
	exports *handlefs.FS
}

// Mount implements mount3.Mounter.
func (m mounter) Mount(ctx context.Context, path string, peer netip.AddrPort) ([]byte, mount3.Status) {
	id, err := m.fleet.Mount(ctx, path, peer)
	if err != nil {
		return nil, mountStatus(err)
	}
	h, err := m.exports.RootHandle(id)
	if err != nil {
		return nil, mount3.Later
	}
	return h, mount3.OK
}

func mountStatus(err error) mount3.Status {
	switch {
	case errors.Is(err, boot.ErrNotFound):
		return mount3.ErrNoEnt
	case errors.Is(err, boot.ErrRefused):
		return mount3.ErrAcces
	case errors.Is(err, boot.ErrNotReady):
		return mount3.Later
	}
	return mount3.ErrServerFault
}

// observer notes every NFS call that was about an export, tells called of its
// name, and logs those that took longer than slow; 0: none.
func observer(log *slog.Logger, slow time.Duration, called func(export string)) func(sunrpc.Event) {
	return func(e sunrpc.Event) {
		x, ok := e.Subject.(*nfsexport.Export)
		if !ok || e.Program != nfs3.Number {
			return
		}
		called(x.Name)
		x.Activity.Note(e.Procedure, e.Duration, e.Result != uint32(nfs3.OK))
		if slow > 0 && e.Duration >= slow {
			log.Warn("a slow NFS call", "serial", x.Name, "procedure", nfs3.ProcName(e.Procedure), "took", e.Duration.Round(time.Millisecond),
				"address", e.Peer.Addr().Unmap(), "result", nfs3.Status(e.Result))
		}
	}
}

// rebindWait bounds how long an NFS call from a new address is held up.
const rebindWait = 2 * time.Second

// rebind asks the fleet about a call from another address than an export's.
func (s *server) rebind(id nfsexport.ID, peer netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(context.Background(), rebindWait)
	defer cancel()
	return s.fleet.Rebind(ctx, id, peer)
}

package servecmd

import (
	"context"
	"fmt"

	"rubus/cmd/internal/ui"
	"rubus/nfsexport/knfsd"
)

// HostNFS says why the host's NFS server cannot serve boards' roots below a state
// directory, at a port: an error with what to do about it. It changes nothing.
func HostNFS(ctx context.Context, state string, port uint16) error {
	if err := knfsd.OwnFileSystem(state); err != nil {
		return ui.Hint(fmt.Errorf("nfs.backend is kernel, and the state directory must be a file system of its own: %w", err),
			"whoever is root on a board could reach all that lies beside it: mount a file system for it alone, or leave nfs.backend out")
	}
	if err := knfsd.Check(ctx); err != nil {
		return err
	}
	switch ok, err := knfsd.Listens(port); {
	case err != nil:
		return err
	case !ok:
		return ui.Hint(fmt.Errorf("the kernel's NFS server does not listen at TCP port %d", port), "\"nfs.port\" of rubus.yaml is to be the port that it has")
	}
	return nil
}

// HostMountPorts are where the host answers boards' MOUNTs; 0: nowhere, as far as its
// port mapper knows.
func HostMountPorts(ctx context.Context) (tcp, udp uint16) { return knfsd.MountPorts(ctx) }

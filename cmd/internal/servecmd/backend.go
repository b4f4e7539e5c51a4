package servecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"rubus/boot"
	"rubus/boot/phase"
	"rubus/boot/quota"
	"rubus/boot/record"
	"rubus/boot/survivors"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
	"rubus/nfsexport/knfsd"
	"rubus/nfsexport/unfsd"
)

// nfsServer serves what the fleet publishes.
type nfsServer interface {
	// Listen and Extend open ports, where the server is ours.
	Listen(ctx context.Context) error
	Extend(ctx context.Context, addr netip.Addr) error
	// Serve serves until ctx ends.
	Serve(ctx context.Context) error
}

// hostNFS is the host's server: its ports are the host's.
type hostNFS struct{ *knfsd.Server }

func (h hostNFS) Listen(context.Context) error             { return nil }
func (h hostNFS) Extend(context.Context, netip.Addr) error { return nil }
func (h hostNFS) Serve(ctx context.Context) error          { return h.Run(ctx) }

// NotIsolated is what to know about the kernel's server, always.
const NotIsolated = "boards are not isolated from each other: the kernel's NFS server (nfs.backend) cannot authenticate file handles, and root on any board can read and write every file of the state directory"

// NoQuotas says that no board is held to its quota.
const NoQuotas = "nobody keeps the boards' quotas: the kernel's NFS server (nfs.backend) counts nothing, and the state directory's file system has no project quotas; \"rubus doctor\" says how it gets them"

// warnQuotas says that boards are not held to the quotas they have.
func (s *server) warnQuotas(next *config.Snapshot) {
	if s.host == nil || next.Quotas() == 0 {
		return
	}
	if way, err := quota.WayOf(s.state); err == nil && way != quota.Kernel {
		s.log.Warn(NoQuotas)
	}
}

// openExports makes what the fleet publishes to. It opens no port.
func (s *server) openExports(ctx context.Context, key [32]byte) (boot.Exporter, error) {
	if s.cfg.NFS.Backend == config.BackendKernel {
		return s.openHost(ctx)
	}
	exports, err := handlefs.New(handlefs.Options{
		Key: key, Seed: randomSeed(), Reserve: uint64(s.cfg.Reserve), Logger: s.log,
		Rebind: s.rebind,
	})
	if err != nil {
		return nil, err
	}
	s.openNFS = func() nfsServer {
		return unfsd.New(unfsd.Config{
			Threads: s.threads, Store: exports, Mounter: mounter{s.fleet, exports}, Addrs: s.addrs,
			Ports:        unfsd.Ports{NFS: s.cfg.NFS.Port, Mount: s.cfg.NFS.MountPort, Portmap: s.cfg.NFS.PortmapPort},
			NoPortmap:    !s.cfg.NFS.Portmap,
			CachePath:    filepath.Join(s.g.RunDir, "nfs-replies"),
			DatagramFrom: s.neigh.OnLink, Log: s.log, Observe: observer(s.log, s.cfg.NFS.SlowCall, s.flights.called),
		})
	}
	return exports, nil
}

// openHost takes up the host's server, if it can be used.
func (s *server) openHost(ctx context.Context) (boot.Exporter, error) {
	err := HostNFS(ctx, s.state, s.cfg.NFS.Port)
	if err != nil {
		return nil, err
	}
	s.host, err = knfsd.New(ctx, knfsd.Options{
		Roots: filepath.Join(s.state, "roots"), Logger: s.log,
		Seen: func(ctx context.Context, id nfsexport.ID, client netip.Addr) { s.fleet.Seen(ctx, id, client) },
	})
	if err != nil {
		return nil, err
	}
	s.openNFS = func() nfsServer { return hostNFS{s.host} }
	s.log.Warn(NotIsolated)
	s.log.Warn("the kernel's NFS server keeps no reserve of disk space, and what it acknowledges a power cut may lose (docs/nfs-kernel.md)")
	return s.host, nil
}

// settleBackend makes sure that no board that may be up has handles of the other
// server: they would be stale. It asks boards for signs of life.
func (s *server) settleBackend(ctx context.Context) error {
	last, now := config.BackendUser, s.cfg.NFS.Backend
	b, err := os.ReadFile(record.BackendFile(s.state))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading which NFS server was the last: %w", err)
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		last = config.Backend(text)
	}
	if last == now {
		return nil
	}
	up, err := survivors.Find(ctx, s.state, s.neigh)
	if err != nil {
		return err
	}
	if len(up) > 0 {
		return ui.Hint(fmt.Errorf("nfs.backend is %s now, and boards that may be up have their roots by %s: %s", now, last, joinSerials(up)),
			fmt.Sprintf("shut them down first; or set it to %s again, and cut off what is dead with \"rubus device stop\"", last))
	}
	if last == config.BackendKernel {
		if err := knfsd.Clear(ctx, knfsd.Options{Roots: filepath.Join(s.state, "roots"), Logger: s.log}); err != nil {
			return fmt.Errorf("ending what the kernel's NFS server exports: %w", err)
		}
	}
	if err := renameio.WriteFile(record.BackendFile(s.state), []byte(now+"\n"), 0o600); err != nil {
		return fmt.Errorf("keeping which NFS server is in use: %w", err)
	}
	return record.SyncDirs(s.state)
}

// mayReload refuses a change of the backend while a board may be up.
func (s *server) mayReload(next *config.Snapshot) error {
	now := next.Daemon().NFS.Backend
	if now == s.cfg.NFS.Backend {
		return nil
	}
	var up []device.Serial
	for _, b := range s.fleet.Boards() {
		if b.Up != phase.UpNo {
			up = append(up, b.Serial)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return ui.Hint(fmt.Errorf("rubus.yaml: nfs.backend: %s is refused while boards are up, or may be: %s", now, joinSerials(up)),
		"shut them down first: their file handles are good for one server only")
}

// joinSerials names the first few.
func joinSerials(all []device.Serial) string {
	const most = 8
	var names []string
	for _, s := range all[:min(most, len(all))] {
		names = append(names, s.String())
	}
	if len(all) > most {
		names = append(names, fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(names, ", ")
}

// warnings are what everybody who asks for the status is told.
func warnings(host *knfsd.Server) []string {
	if host == nil {
		return nil
	}
	out := []string{NotIsolated}
	if p := host.Problem(); p != "" {
		out = append(out, p)
	}
	return out
}

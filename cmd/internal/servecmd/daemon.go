package servecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/boot/flight"
	"rubus/boot/neigh"
	"rubus/boot/netconsole"
	"rubus/boot/phase"
	"rubus/boot/tftp"
	"rubus/cmd/internal/buildinfo"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/threads"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/images"
	"rubus/nfsexport/knfsd"
	"rubus/overlay"
)

// server is the daemon: its parts and how they are wired. It decides nothing.
type server struct {
	g     *cli.Globals
	log   *slog.Logger
	conf  *reloader
	cfg   config.Daemon // as the daemon was started with
	state string

	store   *images.Store
	neigh   *neigh.Table
	exports boot.Exporter
	fleet   *boot.Fleet
	flights *flights
	noDHCP  reasons
	host    *knfsd.Server    // nil: the server is ours
	openNFS func() nfsServer // when the fleet is there
	nfs     nfsServer
	addrs   []netip.Addr // to listen on at the start; none: all
	tftp    []*net.UDPConn
	console *net.UDPConn // nil: not listened to
	control net.Listener
	unlock  func()
	threads *threads.Threads
}

// newServer makes all parts; it opens no port and mounts nothing. The server
// wants its close called also when there is an error.
func newServer(ctx context.Context, g *cli.Globals, conf *reloader, log *slog.Logger) (*server, error) {
	s := &server{g: g, conf: conf, log: log, cfg: conf.snapshot().Daemon(), state: conf.state}
	if err := makeState(s.state); err != nil {
		return s, err
	}
	var err error
	// One daemon for a state directory and for a control socket.
	if s.unlock, err = control.Lock(s.state, g.RunDir); err != nil {
		return s, err
	}
	key, err := handleKey(s.state)
	if err != nil {
		return s, err
	}
	if s.store, err = images.Open(filepath.Join(s.state, "images")); err != nil {
		return s, err
	}
	s.threads = threads.New()
	s.neigh = neigh.New(neigh.Options{Logger: log})
	if s.exports, err = s.openExports(ctx, key); err != nil {
		return s, err
	}
	recorder, err := flight.New(filepath.Join(s.state, "flights"), flight.Limits{}, log)
	if err != nil {
		return s, err
	}
	s.flights = newFlights(recorder)
	limits := phase.DefaultLimits()
	limits.Quiet = s.cfg.Quiet
	s.fleet = boot.New(boot.Options{
		State: s.state, Store: s.store, Exporter: s.exports, Neighbours: s.neigh, Logger: log,
		Reserve: s.cfg.Reserve, NFSPort: s.cfg.NFS.Port, InsecurePorts: s.cfg.NFS.InsecurePorts,
		TrustFirst: s.cfg.DHCP.Mode == config.DHCPOff, Limits: limits, Observe: s.flights.board, Waits: s.threads.Waits,
		WarnOnly: !s.cfg.Boot.Refuse, FallbackAfter: s.cfg.Boot.FallbackAfter, GoodWithin: s.cfg.Boot.GoodWithin,
		Prefixes: s.cfg.TFTP.Prefixes, Pi5Start: boot.Pi5Start(s.cfg.TFTP.Pi5Start),
	})
	s.flights.fleet = s.fleet
	conf.start(log, s.mayReload, s.apply)
	if s.addrs, err = listenAddrs(s.cfg.Listen); err != nil {
		return s, err
	}
	s.nfs = s.openNFS()
	return s, nil
}

// start makes everything ready: the roots of boards that are up first, and the
// ports last, so that no board finds less than it had.
func (s *server) start(ctx context.Context) error {
	switch err := overlay.Probe(ctx, s.state); {
	case err == nil:
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		// Boards that are up wait for their server, full disk or not.
		s.log.Error("the disk of the state directory is full: make room; boards that are up go on, and others may not boot", "err", err)
	default:
		return ui.Hint(fmt.Errorf("the state directory %q cannot carry the boards' roots: %w", s.state, err),
			"use a directory on ext4, xfs or btrfs of this machine: \"state\" of rubus.yaml, or --state")
	}
	if err := s.settleBackend(ctx); err != nil {
		return err
	}
	if err := s.fleet.Start(ctx); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	if err := s.listenConsole(); err != nil {
		return err
	}
	var err error
	s.control, err = control.Listen(s.g.ControlSocket(), s.cfg.Control.Group, s.log)
	return err
}

// run serves until ctx ends or a part fails. Roots stay mounted.
func (s *server) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.nfs.Serve(ctx) })
	handler := &tftp.Server{
		Handler: files{s.fleet, s.neigh, s.log}, Known: s.fleet.IsBoard, Logger: s.log,
		Observe: s.flights.file, MaxBlock: s.cfg.TFTP.MaxBlock, AfterLast: uint16(s.cfg.TFTP.Rollover), Plain: plainNames(s.cfg.TFTP.Plain),
		Waits: s.threads.Waits,
	}
	serve := func(conn *net.UDPConn) { g.Go(func() error { return handler.Serve(ctx, conn) }) }
	for _, conn := range s.tftp {
		serve(conn)
	}
	if names := interfaces(s.cfg.Listen); len(names) > 0 {
		g.Go(func() error { return s.follow(ctx, names, serve) })
	}
	for _, d := range s.dhcp() {
		g.Go(func() error { return d.Run(ctx) })
	}
	g.Go(func() error { return s.flights.rec.Run(ctx) })
	if s.console != nil {
		g.Go(func() error { return netconsole.Serve(ctx, s.console, s.flights.console) })
	}
	g.Go(func() error { return s.fleet.Run(ctx) })
	g.Go(func() error { return s.conf.run(ctx) })
	g.Go(func() error {
		return control.Serve(ctx, s.control, &controlled{s.fleet, s.flights.rec, s.conf, s.cfg, s.state, time.Now(), &s.noDHCP, s.host}, s.log)
	})
	s.log.Info("serving", "version", buildinfo.This().Version, "state", s.state)
	notify(s.log, daemon.SdNotifyReady)
	stop := context.AfterFunc(ctx, func() { notify(s.log, daemon.SdNotifyStopping) })
	defer stop()
	err := g.Wait()
	s.log.Info("stopped; the boards' roots stay mounted")
	return err
}

// apply makes a new snapshot the fleet's.
func (s *server) apply(next *config.Snapshot) {
	if changed := config.NeedsRestart(s.cfg, next.Daemon()); len(changed) > 0 {
		s.log.Warn("rubus.yaml changed: restart rubus for it to hold; boards keep their roots", "sections", changed)
	}
	s.warnQuotas(next)
	s.fleet.Apply(desiredOf(next))
}

// close lets go of what is open, however far the daemon came. It unmounts
// nothing.
func (s *server) close() {
	for _, c := range s.tftp {
		c.Close()
	}
	if s.console != nil {
		s.console.Close()
	}
	if s.host != nil {
		s.host.Close()
	}
	if s.neigh != nil {
		s.neigh.Close()
	}
	if s.unlock != nil {
		s.unlock()
	}
}

// notify tells systemd; without systemd it does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd cannot be told", "state", state, "err", err)
	}
}

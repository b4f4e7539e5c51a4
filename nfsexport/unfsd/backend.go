package unfsd

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"rubus/nfsexport"
	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/portmap"
	"rubus/nfsexport/sunrpc"
)

// Store is the file system served, and the exports in it. handlefs.FS is one.
type Store interface {
	nfs3.FS
	// Publish offers an export, or changes the one of the same ID.
	Publish(nfsexport.Export) error
	// Withdraw ends an export: its handles are stale from now on.
	Withdraw(nfsexport.ID) error
	// RootHandle gives the file handle that MNT answers.
	RootHandle(nfsexport.ID) ([]byte, error)
	// Expects says whether an export is for somebody at this address. It is quick.
	Expects(netip.Addr) bool
}

// Ports are where the programs are served; a zero is the usual port.
type Ports struct {
	NFS     uint16 // 2049, TCP
	Mount   uint16 // 20048, TCP and UDP
	Portmap uint16 // 111, TCP and UDP: the only place where clients look
}

// withDefaults fills the zeros.
func (p Ports) withDefaults() Ports {
	if p.NFS == 0 {
		p.NFS = 2049
	}
	if p.Mount == 0 {
		p.Mount = 20048
	}
	if p.Portmap == 0 {
		p.Portmap = portmap.Port
	}
	return p
}

// Config is what a Backend is made of.
type Config struct {
	// Store holds the exports.
	Store Store
	// Mounter decides on MNT. It may wait for at most MountWait (0: 15 s).
	Mounter   mount3.Mounter
	MountWait time.Duration
	// Addrs are the addresses of this machine to listen on; none: all of them.
	Addrs []netip.Addr
	// Ports to listen on.
	Ports Ports
	// NoPortmap leaves the port mapper out, for a host where another one tells
	// clients our ports, or whose boards need none.
	NoPortmap bool
	// CachePath is the file of the duplicate request cache, on a tmpfs such as
	// /run; "": the cache is lost with the process.
	CachePath string
	// DatagramFrom says whether port mapper and MOUNT answer datagrams from an
	// address: those on the link should be. nil: all.
	DatagramFrom func(netip.Addr) bool
	// Grace is how long calls in flight may take at a stop (0: 10 s).
	Grace time.Duration
	// Limits are those of the NFS program. Where they are zero, connections and
	// calls are bound by what this process may have open: see files.go.
	Limits sunrpc.Limits
	// Threads is told of calls that wait for a disk; nil: nobody.
	Threads sunrpc.Threads
	// Log gets a line about what went wrong; nil: silent.
	Log *slog.Logger
	// Observe is told of every call of every program; nil: nobody.
	Observe func(sunrpc.Event)
}

// mountLimits and portmapLimits are those of the two small programs, whose calls
// are short and few.
func mountLimits(files fileShares) sunrpc.Limits {
	return sunrpc.Limits{
		Conns: files.small, ConnsPerPeer: 8, Brief: true, Calls: 1024, CallsPerPeer: 4, CallsPerConn: 2, Record: 8 << 10,
		Idle: time.Minute, Receive: 10 * time.Second, Write: 10 * time.Second,
	}
}

func portmapLimits(files fileShares) sunrpc.Limits {
	return sunrpc.Limits{
		Conns: files.small, ConnsPerPeer: 8, Brief: true, Record: 4 << 10,
		Idle: 30 * time.Second, Receive: 10 * time.Second, Write: 10 * time.Second,
	}
}

// Backend is the assembled server. New, Publish what there is, Listen, Serve;
// while it serves, Extend.
type Backend struct {
	Store
	addrs    []netip.Addr
	grace    time.Duration
	cache    *sunrpc.Cache
	log      *slog.Logger
	services []service // NFS first
	first    listeners // what Listen opened
	more     chan listeners
}

// service is one RPC server and the port it is served at.
type service struct {
	server *sunrpc.Server
	port   uint16
	udp    bool
}

// New makes a backend. It does not fail: without its cache file it logs so and
// does without.
func New(cfg Config) *Backend {
	b := &Backend{Store: cfg.Store, addrs: cfg.Addrs, grace: cfg.Grace, log: cfg.Log, more: make(chan listeners)}
	if b.grace == 0 {
		b.grace = 10 * time.Second
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if len(b.addrs) == 0 {
		b.addrs = []netip.Addr{netip.IPv6Unspecified()}
	}
	wait := cfg.MountWait
	if wait == 0 {
		wait = 15 * time.Second
	}
	var err error
	if b.cache, err = sunrpc.OpenCache(cfg.CachePath, time.Now); err != nil {
		b.log.Warn("a call repeated over the restart may be done twice", "err", err)
	}
	ports := cfg.Ports.withDefaults()
	add := func(port uint16, udp bool, l sunrpc.Limits, cache *sunrpc.Cache, known func(netip.Addr) bool, p sunrpc.Program) {
		b.services = append(b.services, service{port: port, udp: udp, server: sunrpc.New(sunrpc.Config{
			Programs: []sunrpc.Program{p}, Cache: cache, Log: b.log, Observe: cfg.Observe,
			DatagramFrom: cfg.DatagramFrom, Known: known, Threads: cfg.Threads, Limits: l,
		})})
	}
	files := shares(openFiles())
	add(ports.NFS, false, files.bound(cfg.Limits), b.cache, cfg.Store.Expects, nfs3.NewProgram(cfg.Store))
	add(ports.Mount, true, mountLimits(files), nil, nil, mount3.New(cfg.Mounter, wait))
	if !cfg.NoPortmap {
		add(ports.Portmap, true, portmapLimits(files), nil, nil, portmap.New(mappings(ports)))
	}
	return b
}

// mappings is what the port mapper tells.
func mappings(p Ports) []portmap.Mapping {
	return []portmap.Mapping{
		{Program: portmap.Number, Version: portmap.Version, Protocol: portmap.TCP, Port: p.Portmap},
		{Program: portmap.Number, Version: portmap.Version, Protocol: portmap.UDP, Port: p.Portmap},
		{Program: nfs3.Number, Version: nfs3.Version, Protocol: portmap.TCP, Port: p.NFS},
		{Program: mount3.Number, Version: mount3.Version, Protocol: portmap.TCP, Port: p.Mount},
		{Program: mount3.Number, Version: mount3.Version, Protocol: portmap.UDP, Port: p.Mount},
	}
}

// Stats are the figures of the NFS program's connections.
func (b *Backend) Stats() sunrpc.Stats { return b.services[0].server.Stats() }

// Serve answers on what Listen opened until ctx ends; then it stops accepting,
// gives the calls in flight Config.Grace to end and be answered, cuts their
// connections after that, and gives nil when the last call has left the Store:
// a disk that hangs holds it up. It closes the cache. When one program cannot go
// on, all stop, and Serve gives its error.
func (b *Backend) Serve(ctx context.Context) error {
	g, gctx := errgroup.WithContext(context.WithoutCancel(ctx))
	serve := func(opened listeners) {
		for i, s := range b.services {
			g.Go(func() error { return s.server.Serve(gctx, opened[i].streams, opened[i].packets) })
		}
	}
	serve(b.first)
	g.Go(func() error {
		for {
			select {
			case opened := <-b.more:
				serve(opened)
			case <-ctx.Done():
				return nil
			case <-gctx.Done():
				return nil
			}
		}
	})
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.grace)
		defer cancel()
		var down errgroup.Group
		for _, s := range b.services {
			down.Go(func() error { return s.server.Shutdown(grace) })
		}
		if err := down.Wait(); err != nil {
			b.log.Warn("calls in flight were cut off at the stop", "err", err)
		}
	})
	defer stop()
	return errors.Join(g.Wait(), b.cache.Close())
}

package servecmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"rubus/boot/netwatch"
	"rubus/boot/tftp"
	"rubus/cmd/internal/ports"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/nfsexport/unfsd"
)

// listenAddrs are the addresses to bind; none: all.
func listenAddrs(listen []config.Listen) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, l := range listen {
		addrs, err := ports.Addresses(l.Interface, l.Address)
		if err != nil {
			return nil, ui.Hint(fmt.Errorf("listening on %s: %w", l, err), "name an interface that is up and has an IPv4 address, or the address itself")
		}
		out = append(out, addrs...)
	}
	return out, nil
}

// interfaces are those whose addresses are listened on, whatever they are.
func interfaces(listen []config.Listen) (names []string) {
	for _, l := range listen {
		if !l.Address.IsValid() {
			names = append(names, l.Interface)
		}
	}
	return names
}

// listen opens the ports of TFTP and NFS.
func (s *server) listen(ctx context.Context) error {
	addrs := s.addrs
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.IPv4Unspecified()}
	}
	var errs []error
	for _, a := range addrs {
		conn, err := s.listenTFTP(ctx, a)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.tftp = append(s.tftp, conn)
	}
	return errors.Join(append(errs, explainNFS(s.nfs.Listen(ctx)))...)
}

func (s *server) listenTFTP(ctx context.Context, a netip.Addr) (*net.UDPConn, error) {
	at := netip.AddrPortFrom(a, s.cfg.TFTP.Port)
	conn, err := tftp.Listen(ctx, at)
	if err != nil {
		return nil, portHint(ports.Explain(err, "udp", at))
	}
	return conn, nil
}

func explainNFS(err error) error {
	var le *unfsd.ListenError
	if errors.As(err, &le) {
		return portHint(ports.Explain(err, le.Network, le.Addr))
	}
	return err
}

// portHint says what to do about a port that another program has.
func portHint(err error) error {
	var in *ports.InUse
	if !errors.As(err, &in) {
		return err
	}
	return ui.Hint(err, ports.Free(in.Address.Port(), in.Holder)+"; or give rubus an address of its own: \"listen\" of rubus.yaml")
}

// follow listens also on addresses that the named interfaces get while the
// daemon runs, until ctx ends. An address that goes keeps its ports: when it
// comes back, the boards that have their roots there go on.
func (s *server) follow(ctx context.Context, names []string, serve func(*net.UDPConn)) error {
	open, failed := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, a := range s.addrs {
		open[a] = true
	}
	return netwatch.Run(ctx, func() {
		for _, name := range names {
			addrs, err := ports.Addresses(name, netip.Addr{})
			if err != nil {
				s.log.Debug("nowhere to listen", "interface", name, "err", err)
				continue
			}
			for _, a := range addrs {
				if open[a] {
					continue
				}
				err := s.listenAlso(ctx, a, serve)
				switch {
				case err == nil:
					open[a] = true
					delete(failed, a)
					s.log.Info("listening on one more address", "interface", name, "address", a)
				case !failed[a] && ctx.Err() == nil:
					failed[a] = true // told once; tried at every change
					s.log.Error("cannot listen on an address of the interface; boards get no files there", "interface", name, "address", a, "err", err)
				}
			}
		}
	})
}

// listenAlso opens all ports on one more address, or none.
func (s *server) listenAlso(ctx context.Context, a netip.Addr, serve func(*net.UDPConn)) error {
	conn, err := s.listenTFTP(ctx, a)
	if err != nil {
		return err
	}
	if err := s.nfs.Extend(ctx, a); err != nil {
		return errors.Join(explainNFS(err), conn.Close())
	}
	serve(conn)
	return nil
}

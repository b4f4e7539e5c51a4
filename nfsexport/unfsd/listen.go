package unfsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// ListenError says which port could not be had. With errors.Is(err,
// syscall.EADDRINUSE) somebody else holds it.
type ListenError struct {
	Network string // "tcp" or "udp"
	Addr    netip.AddrPort
	Err     error
}

// Error implements error.
func (e *ListenError) Error() string {
	addr := e.Addr.String()
	if e.Addr.Addr().IsUnspecified() {
		addr = fmt.Sprintf("port %d", e.Addr.Port())
	}
	return fmt.Sprintf("listening on %s/%s: %v", addr, e.Network, e.Err)
}

// Unwrap gives the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// Listen opens all ports, or none: then its error holds a *ListenError for each
// port that cannot be had. Clients may connect from now on; they are answered
// by Serve.
func (b *Backend) Listen(ctx context.Context) error {
	var errs []error
	var lc net.ListenConfig
	for _, s := range b.services {
		for _, a := range b.addrs {
			addr := netip.AddrPortFrom(a, s.port)
			where := addr.String()
			if a.IsUnspecified() {
				where = fmt.Sprintf(":%d", s.port) // IPv4, and IPv6 where there is any
			}
			l, err := lc.Listen(ctx, "tcp", where)
			if err != nil {
				errs = append(errs, listenError("tcp", addr, err))
			} else {
				s.streams = append(s.streams, l)
			}
			if !s.udp {
				continue
			}
			pc, err := lc.ListenPacket(ctx, "udp", where)
			if err != nil {
				errs = append(errs, listenError("udp", addr, err))
			} else {
				s.packets = append(s.packets, pc)
			}
		}
	}
	if len(errs) > 0 {
		b.closeListeners()
	}
	return errors.Join(errs...)
}

// closeListeners takes back what Listen opened.
func (b *Backend) closeListeners() {
	for _, s := range b.services {
		for _, l := range s.streams {
			_ = l.Close()
		}
		for _, pc := range s.packets {
			_ = pc.Close()
		}
		s.streams, s.packets = nil, nil
	}
}

// listenError keeps of err only what our own message does not say.
func listenError(network string, addr netip.AddrPort, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return &ListenError{network, addr, errno}
	}
	if op, ok := err.(*net.OpError); ok {
		err = op.Err
	}
	if text, found := strings.CutPrefix(err.Error(), "bind: "); found {
		err = errors.New(text)
	}
	return &ListenError{network, addr, err}
}

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

// listeners are those of each service, in the order of Backend.services.
type listeners []struct {
	streams []net.Listener
	packets []net.PacketConn
}

func (l listeners) close() {
	for _, s := range l {
		for _, stream := range s.streams {
			_ = stream.Close()
		}
		for _, pc := range s.packets {
			_ = pc.Close()
		}
	}
}

// Listen opens all ports, or none: then its error holds a *ListenError for each
// port that cannot be had. Clients may connect from now on; they are answered
// by Serve.
func (b *Backend) Listen(ctx context.Context) (err error) {
	b.first, err = b.open(ctx, b.addrs...)
	return err
}

// Extend opens all ports on one more address of this machine, or none, with an
// error like Listen's, and has Serve answer there until it ends. It waits for
// Serve to run; when ctx ends before that, it gives ctx's error.
func (b *Backend) Extend(ctx context.Context, addr netip.Addr) error {
	opened, err := b.open(ctx, addr)
	if err != nil {
		return err
	}
	select {
	case b.more <- opened:
		return nil
	case <-ctx.Done():
		opened.close()
		return ctx.Err()
	}
}

func (b *Backend) open(ctx context.Context, addrs ...netip.Addr) (listeners, error) {
	var errs []error
	var lc net.ListenConfig
	opened := make(listeners, len(b.services))
	for i, s := range b.services {
		for _, a := range addrs {
			addr := netip.AddrPortFrom(a, s.port)
			where := addr.String()
			if a.IsUnspecified() {
				where = fmt.Sprintf(":%d", s.port) // IPv4, and IPv6 where there is any
			}
			l, err := lc.Listen(ctx, "tcp", where)
			if err != nil {
				errs = append(errs, listenError("tcp", addr, err))
			} else {
				opened[i].streams = append(opened[i].streams, l)
			}
			if !s.udp {
				continue
			}
			pc, err := lc.ListenPacket(ctx, "udp", where)
			if err != nil {
				errs = append(errs, listenError("udp", addr, err))
			} else {
				opened[i].packets = append(opened[i].packets, pc)
			}
		}
	}
	if len(errs) > 0 {
		opened.close()
		return nil, errors.Join(errs...)
	}
	return opened, nil
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

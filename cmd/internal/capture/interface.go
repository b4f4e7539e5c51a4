package capture

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// held is how much may wait to be written, in bytes.
const held = 64 << 20

// Interface is a capture under way.
type Interface struct {
	conn *packet.Conn
	raw  syscall.RawConn
	file *os.File
	done chan error
}

// Start captures all that goes over an interface, in and out, until Stop. It needs
// root.
func Start(name, path string) (_ *Interface, err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("finding interface %q: %w", name, err)
	}
	c := &Interface{done: make(chan error, 1)}
	if c.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, fmt.Errorf("opening a capture: %w", err)
	}
	if c.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil); err != nil {
		c.file.Close()
		return nil, fmt.Errorf("capturing on %q (needs root): %w", name, err)
	}
	if c.raw, err = c.conn.SyscallConn(); err == nil {
		err = c.raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, held) // what is lost is told
		})
	}
	if err != nil {
		return nil, errors.Join(err, c.conn.Close(), c.file.Close())
	}
	go func() { c.done <- c.copy() }()
	return c, nil
}

func (c *Interface) copy() error {
	w, b := NewWriter(c.file), make([]byte, MaxFrame)
	for {
		n, _, err := c.conn.ReadFrom(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.Join(c.rest(w, b), w.Flush())
		case err != nil:
			return errors.Join(err, w.Flush())
		}
		if err := w.Frame(time.Now(), b[:n]); err != nil {
			return err
		}
	}
}

// rest writes what has come already.
func (c *Interface) rest(w *Writer, b []byte) error {
	var err error
	cerr := c.raw.Control(func(fd uintptr) {
		for err == nil {
			n, _, rerr := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			if rerr != nil {
				return
			}
			err = w.Frame(time.Now(), b[:n])
		}
	})
	return errors.Join(cerr, err)
}

// Stop ends the capture and completes its file. A capture that lacks packets is an
// error.
func (c *Interface) Stop() error {
	err := c.conn.SetReadDeadline(time.Unix(1, 0)) // wakes copy
	err = errors.Join(err, <-c.done)
	if s, serr := c.conn.Stats(); serr == nil && s.Drops > 0 {
		err = errors.Join(err, fmt.Errorf("the capture lacks %d of %d packets", s.Drops, s.Packets))
	}
	if err = errors.Join(err, c.conn.Close(), c.file.Close()); err != nil {
		return fmt.Errorf("capturing: %w", err)
	}
	return nil
}

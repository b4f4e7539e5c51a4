package nic

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Tap is a card plugged into a bridge: a tap device whose other end is this
// process. It exists as long as a process holds its file, so nothing is left
// behind however the process ends.
type Tap struct {
	file *os.File
	name string
}

// OpenTap makes a tap device as a port of the named bridge, in the network
// namespace of the calling thread. The kernel picks the device's name.
func OpenTap(bridge string) (*Tap, error) {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("finding bridge %q: %w", bridge, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun (needs root and the tun driver): %w", err)
	}
	name, err := attach(fd, br)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Tap{file: os.NewFile(uintptr(fd), "/dev/net/tun"), name: name}, nil
}

// attach makes the tap device of fd and plugs it into the bridge.
func attach(fd int, bridge netlink.Link) (string, error) {
	req, err := unix.NewIfreq("rubus-sim%d")
	if err != nil {
		return "", err
	}
	// Plain frames: no header of the tun driver's, no offloads.
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return "", fmt.Errorf("making a tap device: %w", err)
	}
	link, err := netlink.LinkByName(req.Name())
	if err != nil {
		return "", fmt.Errorf("finding tap device %q: %w", req.Name(), err)
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return "", fmt.Errorf("plugging %q into bridge %q: %w", req.Name(), bridge.Attrs().Name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return "", fmt.Errorf("setting %q up: %w", req.Name(), err)
	}
	return req.Name(), nil
}

// Name is the device's name.
func (t *Tap) Name() string { return t.name }

// File is the device, to be handed to an emulator. Don't read from the Tap
// once somebody else does.
func (t *Tap) File() *os.File { return t.file }

// ReadFrame implements Link.
func (t *Tap) ReadFrame(b []byte) (int, error) { return t.file.Read(b) }

// WriteFrame implements Link.
func (t *Tap) WriteFrame(b []byte) error {
	_, err := t.file.Write(b)
	return err
}

// SetReadDeadline implements Link.
func (t *Tap) SetReadDeadline(d time.Time) error { return t.file.SetReadDeadline(d) }

// Checksums implements Link: the kernel fills them in before a tap.
func (t *Tap) Checksums() bool { return true }

// Close implements Link; the device goes with the last file that is open on it.
func (t *Tap) Close() error { return t.file.Close() }

// Raw is a card beside an existing interface's own: frames go out of that
// interface, and those for the board's MAC are picked up from it.
type Raw struct {
	conn *packet.Conn
}

// OpenRaw opens the named interface, in the network namespace of the calling
// thread. The interface is put into promiscuous mode while it is open, since
// the board's MAC is not the interface's.
func OpenRaw(name string) (*Raw, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("finding interface %q: %w", name, err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		return nil, fmt.Errorf("opening interface %q for raw frames (needs root): %w", name, err)
	}
	if err := conn.SetPromiscuous(true); err != nil {
		conn.Close()
		return nil, fmt.Errorf("setting interface %q promiscuous: %w", name, err)
	}
	return &Raw{conn: conn}, nil
}

// OpenMany is OpenRaw for the Switch of many boards: it holds what a second of their
// frames is, and leaves out what they send.
func OpenMany(name string) (*Raw, error) {
	r, err := OpenRaw(name)
	if err != nil {
		return nil, err
	}
	sock, err := r.conn.SyscallConn()
	var set error
	if err == nil {
		err = sock.Control(func(fd uintptr) {
			set = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
				unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
		})
	}
	if err = errors.Join(err, set); err != nil {
		r.Close()
		return nil, fmt.Errorf("interface %q: %w", name, err)
	}
	return r, nil
}

// ReadFrame implements Link.
func (r *Raw) ReadFrame(b []byte) (int, error) {
	n, _, err := r.conn.ReadFrom(b)
	return n, err
}

// WriteFrame implements Link.
func (r *Raw) WriteFrame(b []byte) error {
	_, err := r.conn.WriteTo(b, &packet.Addr{HardwareAddr: net.HardwareAddr(b[:6])})
	return err
}

// SetReadDeadline implements Link.
func (r *Raw) SetReadDeadline(d time.Time) error { return r.conn.SetReadDeadline(d) }

// Checksums implements Link.
func (r *Raw) Checksums() bool { return false }

// Close implements Link.
func (r *Raw) Close() error { return r.conn.Close() }

// Open makes a card on the named interface: a tap when it is a bridge (a frame
// sent on the bridge itself would not reach this host's own servers), else Raw.
func Open(name string) (Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("finding interface %q: %w", name, err)
	}
	if link.Type() == "bridge" {
		return OpenTap(name)
	}
	return OpenRaw(name)
}

var (
	_ Link = (*Tap)(nil)
	_ Link = (*Raw)(nil)
)

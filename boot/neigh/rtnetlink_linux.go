package neigh

import (
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// reply is room for what the kernel says of one thing, or at a time of a table: 32 KiB at
// most (net/netlink/af_netlink.c, netlink_recvmsg).
type reply [32 << 10]byte

var replies = sync.Pool{New: func() any { return new(reply) }}

// rtnetlink asks the kernel for messages of a type (rtnetlink(7)); of type 0 for none. That it
// refuses is a syscall.Errno.
//
// The library's own way, Execute, has 64 KiB on its stack, which its goroutine has for as long
// as it goes on to wait for the link and the disk, and hundreds do when hundreds of boards come;
// and it takes twice the processor's time, for a socket that can wait.
func rtnetlink(kind, flags int, answer uint16, data ...nl.NetlinkRequestData) (found [][]byte, err error) {
	// All is done and answered when the request is sent: nothing waits, or is interrupted.
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	req.Data = data
	if err := unix.Sendto(fd, req.Serialize(), 0, &unix.SockaddrNetlink{}); err != nil {
		return nil, err
	}
	buf := replies.Get().(*reply)
	defer replies.Put(buf)
	for {
		n, from, err := unix.Recvfrom(fd, buf[:], unix.MSG_TRUNC)
		if err != nil {
			return nil, err
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // not of the kernel
		}
		if n > len(buf) {
			return nil, fmt.Errorf("the kernel's answer has %d bytes", n)
		}
		msgs, err := syscall.ParseNetlinkMessage(slices.Clone(buf[:n]))
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(m.Data) >= 4 {
					if errno := int32(nl.NativeEndian().Uint32(m.Data)); errno != 0 {
						return nil, syscall.Errno(-errno)
					}
				}
				return found, nil
			case answer:
				found = append(found, m.Data)
			}
		}
	}
}

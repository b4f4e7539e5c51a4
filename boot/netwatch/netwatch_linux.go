// Package netwatch says when the links or IPv4 addresses of this host change.
package netwatch

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// Run calls changed once it can hear, and then after every change, until ctx
// ends, which is no error. What changed is not told: several changes may be one
// call, and a call may be for nothing that matters, so changed looks at all
// that is there. The kernel keeps what happens while changed runs.
func Run(ctx context.Context, changed func()) error {
	c, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "netlink", nil)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer c.Close()
	// rtnetlink(7): a message for each change of what these groups are about.
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR)
	if err := c.Bind(&unix.SockaddrNetlink{Groups: groups}); err != nil {
		return fmt.Errorf("watching the network interfaces: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		changed()
		_, _, err := c.Recvfrom(ctx, buf, 0)
		if ctx.Err() != nil {
			return nil
		}
		// ENOBUFS: messages were lost, so something has changed.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("watching the network interfaces: %w", err)
		}
	}
}

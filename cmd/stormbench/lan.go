package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"rubus/boot/fakepi/child"
)

// The network: a cable between the server, here, and all boards, in a namespace and a
// process of their own.
const (
	serverCard = "lan0"
	boardsCard = "boards0"
	serverAddr = "10.78.0.1"
	network    = serverAddr + "/21"
	firstAddr  = "10.78.1.0"
	lastAddr   = "10.78.7.250"
	mostBoards = 1000
)

// lan is the boards' end of the network.
type lan struct {
	p   *child.Process
	in  io.WriteCloser
	out *bufio.Reader
	// lost are the frames that were told of.
	lost uint64
}

// order is what boards are told: how many power on, from which number on. With Ask they
// go no further than their first file, for which the server makes their roots.
type order struct {
	First, Boards int
	Ask           bool
}

// newLAN makes the network and starts the process that has the boards.
func newLAN(model, recording string) (_ *lan, err error) {
	cmd := exec.Command("/proc/self/exe", "play", model, recording)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Setpgid: true}
	l := &lan{}
	if l.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewReader(out)
	if l.p, err = child.Start(cmd); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "add", serverCard, "type", "veth", "peer", "name", boardsCard, "netns", fmt.Sprint(l.p.Pid())},
		{"addr", "add", network, "dev", serverCard},
		{"link", "set", serverCard, "up"},
	} {
		if err := ip(args...); err != nil {
			l.close()
			return nil, err
		}
	}
	if err := l.say("the cable is there"); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

func (l *lan) say(v any) error { return json.NewEncoder(l.in).Encode(v) }

// hear reads what the boards say, into v.
func (l *lan) hear(v any) error {
	line, err := l.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the boards' process ended: %w", err)
	}
	return json.Unmarshal(line, v)
}

// storm has boards boot, and gives what each saw. begin is called when all cards are
// there and before the first board has power.
func (l *lan) storm(ctx context.Context, o order, begin func() error) ([]booted, error) {
	stop := context.AfterFunc(ctx, func() { _ = l.p.Signal(unix.SIGTERM) })
	defer stop()
	if err := l.say(o); err != nil {
		return nil, err
	}
	var ready string
	if err := l.hear(&ready); err != nil {
		return nil, err
	}
	if err := begin(); err != nil {
		return nil, err
	}
	if err := l.say("power"); err != nil {
		return nil, err
	}
	var all []booted
	err := l.hear(&all)
	if n := lost(); err == nil && n > l.lost {
		fmt.Fprintf(os.Stderr, "%d frames were lost on the cable: this machine is too busy, and who lost one waited for seconds\n", n-l.lost)
		l.lost = n
	}
	return all, err
}

// lost counts the frames of the server's that the boards' end had no room for.
func lost() uint64 {
	link, err := netlink.LinkByName(serverCard)
	if err != nil || link.Attrs().Statistics == nil {
		return 0
	}
	return link.Attrs().Statistics.TxDropped
}

func (l *lan) close() {
	l.in.Close()
	l.p.Stop(10 * time.Second)
	_ = ip("link", "del", serverCard)
}

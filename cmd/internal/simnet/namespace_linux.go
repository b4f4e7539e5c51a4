package simnet

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"rubus/boot/fakepi/child"
)

// insideEnv tells a copy of this program that it runs in namespaces of its own,
// and where its work directory is.
const insideEnv = "RUBUS_SIMNET"

// Streams are the standard streams of a child.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Enter runs this program again, with the same arguments, in a network and a
// mount namespace of its own: what it mounts and the devices it makes vanish
// with it. It blocks until that copy ends and returns its exit code. A copy is
// needed because only a process with one thread can change its namespaces whole.
func Enter(args []string, work *WorkDir, s Streams) (code int, err error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), work.Handover())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	p, err := child.Start(cmd)
	if err != nil {
		return 0, fmt.Errorf("making a network namespace (needs root): %w", err)
	}
	// The copy gets signals of the terminal by itself, and ends cleanly on
	// them: wait for that. Those sent to this process only are passed on.
	stop := forward(p)
	defer stop()
	<-p.Done()
	return p.ExitCode(), nil
}

// IsolateMounts keeps mounts of this process from other namespaces.
func IsolateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	return nil
}

// MakeBridge makes a bridge with an address, up, and sets the loopback up, in
// the current network namespace.
func MakeBridge(name, addr string) error {
	if lo, err := netlink.LinkByName("lo"); err != nil {
		return fmt.Errorf("finding the loopback: %w", err)
	} else if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("setting the loopback up: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("making bridge %q: %w", name, err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	if err := netlink.AddrAdd(bridge, a); err != nil {
		return fmt.Errorf("giving %q the address %s: %w", name, addr, err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("setting %q up: %w", name, err)
	}
	return nil
}

// BindMount shows the directory from at to, in this mount namespace.
func BindMount(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("showing %q at %q: %w", from, to, err)
	}
	return nil
}

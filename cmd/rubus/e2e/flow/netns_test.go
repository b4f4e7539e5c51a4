package flow

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"rubus/cmd/rubus/e2e/harness"

	"golang.org/x/sys/unix"
)

// netns is a machine of its own as far as the network goes. Mounts are those of
// the test, so that they outlive a daemon that is killed.
type netns struct{ file *os.File }

// newNetns makes a network namespace that lives as long as the test.
func newNetns(t *testing.T) *netns {
	t.Helper()
	n := &netns{}
	made := make(chan error)
	go func() {
		// Not unlocked: the thread has another network and ends with this.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	must(t, <-made)
	t.Cleanup(func() { n.file.Close() })
	n.run(t, "ip", "link", "set", "lo", "up")
	return n
}

// do runs f in the namespace: sockets it makes belong there.
func (n *netns) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// path names the namespace for programs.
func (n *netns) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// command is a program in the namespace. It has the process id of the command.
func (n *netns) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", n.inside(name, args)...)
}

func (n *netns) inside(name string, args []string) []string {
	return append([]string{"--net=" + n.path(), "--", name}, args...)
}

// run runs a program that must succeed.
func (n *netns) run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return harness.Run(t, "nsenter", n.inside(name, args)...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

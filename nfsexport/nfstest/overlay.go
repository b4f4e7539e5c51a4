package nfstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace marks the process that Main started.
const inNamespace = "RUBUS_NFSTEST_NAMESPACE"

// Main runs a package's tests in a mount namespace and a network namespace of
// their own, so that no mount outlives them, with a umask of 0. It does not
// return.
func Main(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		unix.Umask(0)
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintf(os.Stderr, "starting the tests in a mount namespace of their own (are you root?): %v\n", err)
		os.Exit(1)
	}
}

// Overlay is an overlay mounted as a board's root is.
type Overlay struct {
	Lower, Upper, Work, Root string
	// More is appended to the options of the next Mount, ",redirect_dir=on".
	More string
}

// NewOverlay mounts an overlay over an empty lower in base, until the test ends.
// Fill is called before with the lower's path; nil: nothing is in it.
func NewOverlay(t testing.TB, base string, fill func(lower string)) *Overlay {
	t.Helper()
	o := &Overlay{
		Lower: filepath.Join(base, "lower"), Upper: filepath.Join(base, "upper"),
		Work: filepath.Join(base, "work"), Root: filepath.Join(base, "root"),
	}
	for _, d := range []string{o.Lower, o.Upper, o.Work, o.Root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if fill != nil {
		fill(o.Lower)
	}
	o.Mount(t)
	t.Cleanup(func() { unix.Unmount(o.Root, unix.MNT_DETACH) })
	return o
}

// Mount mounts the overlay again after Unmount.
func (o *Overlay) Mount(t testing.TB) {
	t.Helper()
	opts := "lowerdir=" + o.Lower + ",upperdir=" + o.Upper + ",workdir=" + o.Work + ",nfs_export=on,index=on" + o.More
	if err := unix.Mount("overlay", o.Root, "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		t.Fatalf("mounting an overlay (root is needed): %v", err)
	}
}

// Unmount fails the test when something below the root is still in use.
func (o *Overlay) Unmount(t testing.TB) {
	t.Helper()
	if err := unix.Unmount(o.Root, 0); err != nil {
		t.Fatalf("unmounting %s: %v", o.Root, err)
	}
}

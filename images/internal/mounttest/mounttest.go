// Package mounttest runs parts of tests in mount namespaces of their own.
package mounttest

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Run runs f on a thread with a mount namespace of its own, which ends with that thread. f is not on
// the test's goroutine, and so may not end the test: it says t.Error and returns.
func Run(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is not used again
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			t.Errorf("this test needs CAP_SYS_ADMIN for a mount namespace: %v", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Errorf("making mounts private: %v", err)
			return
		}
		f()
	}()
	<-done
}

package simnet

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/boot/fakepi/nic"
)

// TestMain lets the test binary be the copy of the program that Enter starts.
func TestMain(m *testing.M) {
	switch work := WorkDirInside(os.Getenv); {
	case work != "":
		if err := inside(work); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		fmt.Println("inside is done")
		os.Exit(7)
	case os.Geteuid() != 0:
		fmt.Fprintln(os.Stderr, "these tests make network namespaces: run them as root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const testBridge = "simnettest0"

// inside is what is done in the namespaces: all that a standalone simulation does.
func inside(work string) error {
	if err := IsolateMounts(); err != nil {
		return err
	}
	if err := MakeBridge(testBridge, "10.99.0.1/24"); err != nil {
		return err
	}
	tap, err := nic.OpenTap(testBridge)
	if err != nil {
		return err
	}
	defer tap.Close()
	if _, err := net.Listen("tcp", "10.99.0.1:111"); err != nil {
		return err
	}
	for _, d := range []string{"from", "to"} {
		if err := os.Mkdir(filepath.Join(work, d), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(work, "from/file"), []byte("kept"), 0o600); err != nil {
		return err
	}
	return BindMount(filepath.Join(work, "from"), filepath.Join(work, "to"))
}

func TestEnterLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	work, err := MakeWorkDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code, err := Enter(os.Args[1:], work, Streams{Out: &out, Err: &out})
	if err != nil || code != 7 || out.String() != "inside is done\n" {
		t.Fatalf("%d, %v, %s", code, err, out.String())
	}
	if _, err := net.InterfaceByName(testBridge); err == nil {
		t.Error("the bridge is out here")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), work.Path) {
		t.Error("a mount is out here", err)
	}
	if err := work.Remove(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
}

// TestOldWorkDirs: what a killed simulation left goes with the next one; what
// another one uses stays.
func TestOldWorkDirs(t *testing.T) {
	parent := t.TempDir()
	used, err := MakeWorkDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(parent, workPrefix+"left")
	if err := os.MkdirAll(filepath.Join(left, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(used.Path, filepath.Join(left, "a/link")); err != nil {
		t.Fatal(err)
	}
	now, err := MakeWorkDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Error("the old one is there:", err)
	}
	for _, w := range []*WorkDir{used, now} {
		if err := w.Remove(); err != nil {
			t.Error(err)
		}
	}
}

// TestRemoveSparesMounts plants mounts in a work directory: nothing in them
// may go.
func TestRemoveSparesMounts(t *testing.T) {
	// The thread is in a mount namespace of its own and ends with the test.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatalf("making a mount namespace (needs root): %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	victim := t.TempDir()
	if err := os.WriteFile(filepath.Join(victim, "file"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	work, err := MakeWorkDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(work.Path, "state/images")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	// The same file system, so that only the mount tells them apart.
	if err := unix.Mount(victim, at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	err = work.Remove()
	if got, err := os.ReadFile(filepath.Join(victim, "file")); err != nil || string(got) != "kept" {
		t.Fatalf("the removal went through a mount: %v", err)
	}
	if err == nil {
		t.Error("no error")
	}
	if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

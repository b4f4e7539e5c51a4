package commit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInOrder names the file systems of which one file stands for all: that a power cut
// loses nothing on them TestPowerCut of package handlefs shows.
func TestInOrder(t *testing.T) {
	for name, c := range map[string]struct {
		fsType int64
		want   bool
	}{
		"ext4":      {unix.EXT4_SUPER_MAGIC, true},
		"xfs":       {unix.XFS_SUPER_MAGIC, true},
		"btrfs":     {unix.BTRFS_SUPER_MAGIC, false},
		"tmpfs":     {unix.TMPFS_MAGIC, false},
		"overlayfs": {unix.OVERLAYFS_SUPER_MAGIC, false},
		"none":      {0, false},
	} {
		if got := inOrder(c.fsType); got != c.want {
			t.Errorf("%s commits in order: %v", name, got)
		}
	}
}

// unnamed lists the descriptors of files without a name below dir.
func unnamed(t *testing.T, dir string) (fds []string) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if strings.HasPrefix(to, dir+"/") && strings.HasSuffix(to, " (deleted)") {
			fds = append(fds, fd.Name())
		}
	}
	return fds
}

func openDir(t *testing.T, dir string, flags int) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestTree: a root is synced by a file that shows nowhere, and is gone with it.
func TestTree(t *testing.T) {
	dir := t.TempDir()
	var f unix.Statfs_t
	if err := unix.Statfs(dir, &f); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		upper string
		quick bool
	}{
		"a known upper":    {dir, inOrder(int64(f.Type))},
		"an unknown upper": {"", false},
		"no upper there":   {filepath.Join(dir, "none"), false},
	} {
		t.Run(name, func(t *testing.T) {
			tree := Open(openDir(t, dir, unix.O_RDONLY), c.upper)
			if fds := unnamed(t, dir); len(fds) == 1 != c.quick {
				t.Errorf("unnamed files %v; one is synced for all: %v", fds, c.quick)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
				t.Errorf("it shows: %v, %v", names, err)
			}
			for range 2 {
				if e := tree.Sync(); e != 0 {
					t.Error(e)
				}
			}
			tree.Close()
			if fds := unnamed(t, dir); len(fds) > 0 {
				t.Errorf("unnamed files after Close: %v", fds)
			}
		})
	}
}

// TestFails: whoever waits is told what the kernel said.
func TestFails(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	path := openDir(t, t.TempDir(), unix.O_PATH)
	tree := &Tree{fd: path, sentinel: pipe[0]}
	for name, c := range map[string]struct{ got, want unix.Errno }{
		"a file that is not open":       {File(-1), unix.EBADF},
		"data of a file that is not":    {Data(-1), unix.EBADF},
		"a pipe":                        {File(pipe[0]), unix.EINVAL},
		"data of a pipe":                {Data(pipe[0]), unix.EINVAL},
		"a tree that is not for I/O":    {Open(path, "").Sync(), unix.EBADF},
		"a sentinel that has no disk":   {tree.Sync(), unix.EINVAL},
		"and another time the same":     {tree.Sync(), unix.EINVAL},
		"a directory, which has a disk": {File(openDir(t, t.TempDir(), unix.O_RDONLY)), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

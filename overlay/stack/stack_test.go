package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// layersOf makes n layers; dir of each is theirs alone, and shared is in all.
func layersOf(t *testing.T, n int) (layers []string) {
	t.Helper()
	base := t.TempDir()
	for i := range n {
		l := filepath.Join(base, fmt.Sprint(i))
		for _, d := range []string{fmt.Sprintf("shared/of%d", i), fmt.Sprintf("dir%d", i)} {
			if err := os.MkdirAll(filepath.Join(l, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		layers = append(layers, l)
	}
	return layers
}

// kernel is the version of the kernel that runs.
func kernel(t *testing.T) (v [2]int) {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &v[0], &v[1]); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestOpen: each way shows the layers merged, gives handles, and leaves no mount that
// can be seen; closed, it holds nothing.
func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		way   way
		since [2]int // the kernel's version
	}{"by fd": {byFD, [2]int{6, 13}}, "by name": {byName, [2]int{6, 5}}, "by string": {byString, [2]int{}}} {
		t.Run(name, func(t *testing.T) {
			layers := layersOf(t, 60)
			root, err := open(layers, []way{c.way})
			if now := kernel(t); errors.Is(err, errNoWay) && slices.Compare(now[:], c.since[:]) < 0 {
				return // as it must be: the next way is used
			}
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			for i := range layers {
				for _, d := range []string{fmt.Sprintf("shared/of%d", i), fmt.Sprintf("dir%d", i)} {
					h, _, err := unix.NameToHandleAt(int(root.Fd()), d, 0)
					if err != nil {
						t.Fatal(err)
					}
					fd, err := unix.OpenByHandleAt(int(root.Fd()), h, unix.O_PATH)
					if err != nil {
						t.Fatalf("opening %q: %v", d, err)
					}
					unix.Close(fd)
				}
			}
			if err := unix.Mkdirat(int(root.Fd()), "new", 0o755); err != unix.EROFS {
				t.Errorf("making a directory: %v, want EROFS", err)
			}
			mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Source != source, false })
			if err != nil || len(mounts) > 0 {
				t.Errorf("mounts %v, %v", mounts, err)
			}
		})
	}
}

// TestOpenRefuses: what cannot be served is an error, and not a tree without handles.
func TestOpenRefuses(t *testing.T) {
	layers := layersOf(t, 2)
	for name, dirs := range map[string][]string{
		"no layers":       nil,
		"one layer":       layers[:1],
		"a layer is gone": {layers[0], filepath.Join(t.TempDir(), "none")},
		"no handles":      {layers[0], "/proc/self"},
	} {
		t.Run(name, func(t *testing.T) {
			if root, err := Open(dirs); err == nil {
				root.Close()
				t.Error("no error")
			}
		})
	}
}

package ballast

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is a file system of 16 MiB.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"))
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// full leaves so many bytes to others.
func full(t *testing.T, dir string, left int64) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "fill"), nil, 0o600))
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	f, err := os.OpenFile(filepath.Join(dir, "fill"), os.O_WRONLY, 0)
	must(t, err)
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-left))
	must(t, f.Close())
}

func size(t *testing.T, path string) (bytes int64) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if st.Blocks*512 != st.Size {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	return st.Size
}

func TestDo(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name  string
		asks  int64 // what is written
		fails error // what it ends with besides
		want  error
		calls int
		keeps int64 // what the ballast has then, but for three times least
	}{
		{"nothing", 0, nil, nil, 1, Size},
		{"another error", 0, boom, boom, 1, Size},
		{"a block", 4096, nil, nil, 2, Size - 4096},
		{"an error behind it", 4096, boom, boom, 2, Size},
		{"more than one step", 2<<20 + 4096, nil, nil, 4, Size - 2<<20 - 4096},
		{"all", Size, nil, nil, 5, 0},
		{"more than there is", Size + 4096, nil, unix.ENOSPC, 5, Size},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := disk(t)
			path := filepath.Join(dir, "ballast")
			b := New(path)
			must(t, b.Fill())
			if got := size(t, path); got != Size {
				t.Fatalf("it has %d bytes", got)
			}
			full(t, dir, 0)
			calls := 0
			err := b.Do(func() error {
				calls++
				p := filepath.Join(dir, "file")
				f, err := os.Create(p)
				if err == nil && c.asks > 0 {
					err = unix.Fallocate(int(f.Fd()), 0, 0, c.asks)
				}
				if err == nil {
					err = c.fails
				}
				if err != nil {
					err = errors.Join(err, os.Remove(p))
				}
				return errors.Join(err, f.Close())
			})
			if got := size(t, path); !errors.Is(err, c.want) || calls != c.calls || got > c.keeps || got < c.keeps-3*least {
				t.Errorf("%v after %d calls, %d bytes are kept; want %v, %d and %d", err, calls, got, c.want, c.calls, c.keeps)
			}
			must(t, os.Remove(filepath.Join(dir, "fill")))
			must(t, b.Fill())
			if got := size(t, path); got < Size-least {
				t.Errorf("when there is room it has %d bytes", got)
			}
		})
	}
}

// What there is when it begins is taken, and the rest when there is room; without a file
// nothing is given.
func TestFill(t *testing.T) {
	dir := disk(t)
	path := filepath.Join(dir, "ballast")
	full(t, dir, 3<<20)
	b := New(path)
	must(t, b.Fill())
	if got := size(t, path); got < 3<<20-3*least || got > 3<<20 {
		t.Errorf("of 3 MiB it has %d bytes", got)
	}
	must(t, os.Remove(filepath.Join(dir, "fill")))
	must(t, os.Truncate(path, 0))
	must(t, os.Truncate(path, Size)) // holes, as in a copy of the state directory
	must(t, b.Fill())
	if got := size(t, path); got != Size {
		t.Errorf("with room it has %d bytes", got)
	}

	none := New(filepath.Join(dir, "none", "ballast"))
	if err := none.Fill(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	calls := 0
	if err := none.Do(func() error { calls++; return unix.ENOSPC }); !errors.Is(err, unix.ENOSPC) || calls != 1 {
		t.Errorf("without a file: %v after %d calls", err, calls)
	}
	must(t, os.Symlink("/dev/null", filepath.Join(dir, "link")))
	if err := New(filepath.Join(dir, "link")).Fill(); !errors.Is(err, unix.ELOOP) {
		t.Errorf("through a link: %v", err)
	}
}

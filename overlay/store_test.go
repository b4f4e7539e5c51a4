package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// store is a directory with layers and the uppers of boards.
type store struct {
	*testing.T
	dir    string
	layers []string
	base   Base
}

// newStore makes layers of a list of files each; a name that ends in a slash
// is a directory, one that begins with "-" is deleted by that layer.
func newStore(t *testing.T, dir string, layers ...[]string) *store {
	needNamespace(t)
	s := &store{T: t, dir: dir}
	for i, files := range layers {
		l := filepath.Join(dir, "layers", fmt.Sprintf("l%d", i))
		must(t, os.MkdirAll(l, 0o755))
		for _, f := range files {
			name, deleted := strings.CutPrefix(f, "-")
			p := filepath.Join(l, name)
			must(t, os.MkdirAll(filepath.Dir(p), 0o755))
			switch {
			case deleted:
				must(t, unix.Mknod(p, unix.S_IFCHR, 0))
			case strings.HasSuffix(f, "/"):
				must(t, os.MkdirAll(p, 0o755))
			default:
				must(t, os.WriteFile(p, []byte("golden "+name), 0o644))
			}
		}
		s.layers = append(s.layers, l)
	}
	s.base = s.baseNow()
	return s
}

func (s *store) baseNow() Base {
	s.Helper()
	var digests []string
	for _, l := range s.layers {
		digests = append(digests, "sha256:"+filepath.Base(l))
	}
	b, err := BaseOf(digests, s.layers)
	must(s, err)
	return b
}

func (s *store) uppers(serialText string) Uppers {
	return UppersOf(filepath.Join(s.dir, "devices"), serial(s, serialText))
}

// spec makes a new upper for a board.
func (s *store) spec(serialText string) Spec {
	s.Helper()
	u := s.uppers(serialText)
	have, err := u.List()
	must(s, err)
	id, err := u.Create(s.base, len(have)+1, s.layers[len(s.layers)-1])
	must(s, err)
	return Spec{
		Serial: u.Serial, Base: s.base, LayerDirs: s.layers, UpperDir: u.Path(id), UpperID: id,
		Target: filepath.Join(s.dir, "roots", serialText),
	}
}

func (s *store) mount(spec Spec, ways ...mountWay) Root {
	s.Helper()
	if len(ways) == 0 {
		ways = mountWays()
	}
	root, err := mountRoot(context.Background(), spec, ways)
	if errors.Is(err, errNoWay) {
		// No power of ours is missing: this kernel has other ways, which the
		// other tests go.
		s.Skip(err)
	}
	must(s, err)
	s.Cleanup(func() { unix.Unmount(spec.Target, unix.MNT_DETACH) })
	return root
}

func readAll(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "(missing)"
	}
	must(t, err)
	return string(b)
}

// list names what is below dir: type letter, path.
func list(t testing.TB, dir string) []string {
	t.Helper()
	var got []string
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		kind := "?"
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			kind = "whiteout"
		case st.Mode&unix.S_IFMT == unix.S_IFREG:
			kind = "file"
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			kind = "dir"
		}
		rel, _ := filepath.Rel(dir, p)
		got = append(got, kind+" "+rel)
		return nil
	}))
	slices.Sort(got)
	return got
}

// treeDigest hashes all there is to a tree: names, attributes, content.
func treeDigest(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		fmt.Fprintln(h, p, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Rdev, st.Size, st.Mtim, st.Ctim)
		names, err := listXattrs(p)
		must(t, err)
		for _, n := range names {
			buf := make([]byte, 65536)
			size, err := unix.Lgetxattr(p, n, buf)
			must(t, err)
			fmt.Fprintf(h, "%s %x\n", n, buf[:size])
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			fmt.Fprintln(h, readAll(t, p))
		}
		return nil
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

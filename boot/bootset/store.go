package bootset

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"rubus/boot/bootfs"
)

// Source is where a set is taken from: the boot directory of a root.
type Source interface {
	// Open opens a file by its name; Names lists all there are.
	Open(name string) (*bootfs.File, error)
	Names() ([]string, error)
	// Layer says in which immutable layer an open file lies unchanged, and
	// where; ok is false for a file of the board's own.
	Layer(name string, f *bootfs.File) (digest, path string, ok bool)
}

// MaxCopies bounds the copies of one set, in bytes.
const MaxCopies = 512 << 20

// Errors of Take.
var (
	// ErrTooLarge: the board's own files are more than MaxCopies.
	ErrTooLarge = errors.New("the board's own boot files are too large to be kept")
	// ErrChanging: the files are being written.
	ErrChanging = errors.New("the boot files are being written")
)

// Store keeps the sets of one board below a directory of its own: at most the
// present one and that of the last good boot. It is for one goroutine at a time;
// open files stay good whatever it does.
type Store struct {
	// Dir is made when it is needed.
	Dir string
	// LayerDir is where a layer's tree is.
	LayerDir func(digest string) string
	// Now is the clock.
	Now func() time.Time
}

// The names in a store's directory.
const (
	currentName = "current.json"
	goodName    = "good.json"
	historyName = "history.json"
	objectsName = "objects"
)

// maxManifest bounds what is read of a file of the store's own, in bytes.
const maxManifest = 8 << 20

// Current is the set that was taken last; nil: none.
func (s *Store) Current() (*Set, error) { return s.load(currentName) }

// LastGood is the set of the last good boot; nil: none.
func (s *Store) LastGood() (*Set, error) { return s.load(goodName) }

func (s *Store) load(name string) (*Set, error) {
	set := &Set{}
	ok, err := s.read(name, set)
	if !ok {
		return nil, err
	}
	return set, nil
}

// read reads a file of the store's own; ok is false when there is none, or it
// cannot be read.
func (s *Store) read(name string, v any) (ok bool, err error) {
	f, err := os.Open(filepath.Join(s.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		defer f.Close()
		err = json.NewDecoder(io.LimitReader(f, maxManifest)).Decode(v)
	}
	if err != nil {
		return false, fmt.Errorf("reading the board's boot sets: %w", err)
	}
	return true, nil
}

// write replaces a file of the store's own: whole, and on disk when it returns.
func (s *Store) write(name string, v any) error {
	err := s.replace(name, v)
	if err == nil {
		err = s.sync()
	}
	return err
}

// replace replaces a file of the store's own: whole, and on disk after sync. A power cut
// before that leaves the former one.
func (s *Store) replace(name string, v any) error {
	err := os.MkdirAll(s.Dir, 0o700)
	var b []byte
	if err == nil {
		b, err = json.Marshal(v)
	}
	if err == nil {
		err = renameio.WriteFile(filepath.Join(s.Dir, name), append(b, '\n'), 0o600, renameio.WithTempDir(s.Dir))
	}
	if err != nil {
		return fmt.Errorf("keeping the board's boot sets: %w", err)
	}
	return nil
}

func (s *Store) sync() error {
	if err := syncDir(s.Dir); err != nil {
		return fmt.Errorf("keeping the board's boot sets: %w", err)
	}
	return nil
}

// tries is how often Take begins anew when files change under it.
const tries = 3

// Take makes a set of the files that a report names, as they are at one moment,
// keeps it as the present one, and removes copies that no set needs any more, also
// when it fails. It is on the disk with the next History that is remembered: that says
// which boot got it.
// The error wraps ErrTooLarge or ErrChanging, or is one of the system, such as
// no space.
func (s *Store) Take(src Source, r Report) (*Set, error) {
	known := map[string]string{} // identity -> sum of copies that are there
	for _, load := range []func() (*Set, error){s.Current, s.LastGood} {
		if set, err := load(); err == nil && set != nil {
			for _, e := range set.Files {
				if e.Sum != "" {
					known[e.Identity] = e.Sum
				}
			}
		}
	}
	for range tries {
		set, err := s.take(src, r, known)
		if errors.Is(err, ErrChanging) {
			continue
		}
		if err == nil {
			err = s.replace(currentName, set)
		}
		if err != nil {
			return nil, errors.Join(err, s.clear())
		}
		return set, s.prune(set)
	}
	return nil, errors.Join(ErrChanging, s.clear())
}

// clear removes the copies of a set that came to nothing: on a disk that is
// full they would take what little comes free.
func (s *Store) clear() error {
	now, err := s.Current()
	if err != nil {
		return nil // what it needs is not known
	}
	return s.prune(now)
}

func (s *Store) take(src Source, r Report, known map[string]string) (*Set, error) {
	if set := r.sharedSet(src); set != nil {
		set.Made = s.Now()
		return set, nil
	}
	names, err := src.Names()
	if err != nil {
		return nil, err
	}
	set := &Set{Made: s.Now(), Kernels: r.Kernels, Releases: r.Releases, Names: names, Files: []Entry{}}
	seen := map[string]string{}
	var copied int64
	for _, name := range r.Files {
		f, err := src.Open(name)
		if err != nil {
			return nil, fmt.Errorf("%q was there and is not now: %w", name, ErrChanging)
		}
		e := Entry{Name: name, Size: f.Size()}
		seen[name] = f.Identity()
		if digest, path, ok := src.Layer(name, f); ok {
			e.Layer, e.Path = digest, path
		} else {
			if copied += f.Size(); copied > MaxCopies {
				f.Close()
				return nil, ErrTooLarge
			}
			e.Identity = f.Identity()
			e.Sum, err = s.keep(f, known)
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		set.Files = append(set.Files, e)
	}
	// All of one moment: none was written or replaced since it was looked at.
	for name, id := range seen {
		f, err := src.Open(name)
		if err != nil {
			return nil, ErrChanging
		}
		now := f.Identity()
		f.Close()
		if now != id {
			return nil, ErrChanging
		}
	}
	set.setKey()
	r.share(src, set)
	return set, nil
}

// keep makes a copy of a file, unless it is there, and gives its sum.
func (s *Store) keep(f *bootfs.File, known map[string]string) (string, error) {
	if sum := known[f.Identity()]; sum != "" {
		if fi, err := os.Lstat(s.object(sum)); err == nil && fi.Size() == f.Size() {
			return sum, nil
		}
	}
	dir := filepath.Join(s.Dir, objectsName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keeping a boot file: %w", err)
	}
	tmp, err := os.CreateTemp(dir, tmpPrefix)
	if err != nil {
		return "", fmt.Errorf("keeping a boot file: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone under this name when all went well
	defer tmp.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(tmp, h), f); err != nil {
		if errors.Is(err, bootfs.ErrShrunk) {
			return "", ErrChanging
		}
		return "", fmt.Errorf("keeping a boot file: %w", err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	err = errors.Join(tmp.Sync(), os.Rename(tmp.Name(), s.object(sum)), syncDir(dir))
	if err != nil {
		return "", fmt.Errorf("keeping a boot file: %w", err)
	}
	known[f.Identity()] = sum
	return sum, nil
}

const tmpPrefix = ".tmp-"

func (s *Store) object(sum string) string { return filepath.Join(s.Dir, objectsName, sum) }

// prune removes the copies that neither the given set nor the last good one has.
func (s *Store) prune(now *Set) error {
	need := map[string]bool{}
	good, err := s.LastGood()
	if err != nil {
		return err // what it needs is not known
	}
	for _, set := range []*Set{now, good} {
		if set == nil {
			continue
		}
		for _, e := range set.Files {
			need[e.Sum] = true
		}
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, objectsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return need[e.Name()] })
	if len(entries) > 0 {
		// The set before may need them until the disk has this one.
		err = errors.Join(err, s.sync())
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(s.Dir, objectsName, e.Name())))
	}
	return err
}

// Forget removes all that is kept.
func (s *Store) Forget() error {
	objects := filepath.Join(s.Dir, objectsName)
	entries, err := os.ReadDir(objects)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	errs := []error{err}
	remove := func(path string) {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, name := range []string{currentName, goodName, historyName} {
		remove(filepath.Join(s.Dir, name))
	}
	for _, e := range entries {
		remove(filepath.Join(objects, e.Name()))
	}
	remove(objects)
	remove(s.Dir)
	return errors.Join(errs...)
}

// MarkGood keeps a set as that of the last good boot.
func (s *Store) MarkGood(set *Set) error { return s.write(goodName, set) }

// Serve gives the files of a set; live opens those that are none of it.
func (s *Store) Serve(set *Set, live func(name string) (*bootfs.File, error)) *Served {
	return &Served{Set: set, store: s, Live: live}
}

// open opens a file as it was kept. One that is not as it was is an error.
func (s *Store) open(e Entry) (*bootfs.File, error) {
	dir, name := filepath.Join(s.Dir, objectsName), e.Sum
	if e.Sum == "" {
		dir, name = s.LayerDir(e.Layer), e.Path
	}
	f, err := openBelow(dir, name)
	if err != nil {
		return nil, fmt.Errorf("opening the kept boot file %q: %w", e.Name, err)
	}
	file, err := bootfs.FromFile(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	if file.Size() != e.Size {
		file.Close()
		return nil, fmt.Errorf("the kept boot file %q has %d bytes, not %d", e.Name, file.Size(), e.Size)
	}
	return file, nil
}

// openBelow opens a regular file below a directory, and follows no link.
func openBelow(dir, name string) (*os.File, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	how := unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		// Renames elsewhere in the tree make the kernel ask for another try.
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(root, name, &how)
		if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) && try < 16 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

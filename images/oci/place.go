package oci

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
)

// stagePrefix begins the names of directories in which an export is put together.
const stagePrefix = ".rubus-export-"

// stage puts files together beside the place where they are to be. Until all are written and on
// the disk they have no names, where the file system can do that: so nothing stays of an
// export that is killed. Of one killed in the moment between, or on another file system, the
// next export to the same directory removes what is left.
type stage struct {
	parent string
	dir    string // "" until it is needed
	lock   int    // held while this process lives
	named  bool   // the file system has no files without names
	files  []staged
	step   func() // what is on the disk has changed
}

type staged struct {
	file  *os.File
	name  string
	named bool
}

func newStage(path string, o Options) (*stage, error) {
	s := &stage{parent: filepath.Dir(path), lock: -1, step: o.Observe}
	if s.step == nil {
		s.step = func() {}
	}
	return s, s.sweep()
}

// sweep removes what dead exports left.
func (s *stage) sweep() error {
	names, err := os.ReadDir(s.parent)
	if err != nil {
		return err
	}
	for _, e := range names {
		if !strings.HasPrefix(e.Name(), stagePrefix) || !e.IsDir() {
			continue
		}
		full := filepath.Join(s.parent, e.Name())
		fd, err := onefs.OpenRoot(full)
		if err != nil {
			continue // its owner removed it just now
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = os.RemoveAll(full)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("removing what an export left: %w", err)
		}
	}
	return nil
}

// mkdir makes the directory that the files get their names in.
func (s *stage) mkdir() error {
	if s.dir != "" {
		return nil
	}
	dir := filepath.Join(s.parent, stagePrefix+strings.ToLower(rand.Text()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	s.dir = dir
	s.step()
	var err error
	if s.lock, err = onefs.OpenRoot(dir); err != nil {
		return err
	}
	return unix.Flock(s.lock, unix.LOCK_EX|unix.LOCK_NB)
}

// create makes a file that gets its name below the stage's directory in publish.
func (s *stage) create(name string) (*os.File, error) {
	if !s.named {
		fd, err := unix.Open(s.parent, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err == nil {
			f := os.NewFile(uintptr(fd), name)
			s.files = append(s.files, staged{f, name, false})
			s.step()
			return f, nil
		}
		s.named = true // vfat and NFS
	}
	if err := s.mkdir(); err != nil {
		return nil, err
	}
	full := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		s.files = append(s.files, staged{f, name, true})
		s.step()
	}
	return f, err
}

// copy makes a file of what r holds, and closes r.
func (s *stage) copy(name string, r io.ReadCloser) error {
	defer r.Close()
	f, err := s.create(name)
	if err == nil {
		_, err = io.Copy(f, r)
	}
	return err
}

// write makes a file of b.
func (s *stage) write(name string, b []byte) error {
	return s.copy(name, io.NopCloser(strings.NewReader(string(b))))
}

// publish moves name, a file or directory of the stage, to path when all is on the disk. What
// is there already stays, unless replace allows another.
func (s *stage) publish(name, path string, replace bool) error {
	if err := s.mkdir(); err != nil {
		return err
	}
	dirs := map[string]bool{s.dir: true, s.parent: true}
	for _, f := range s.files {
		full := filepath.Join(s.dir, f.name)
		if err := f.file.Sync(); err != nil {
			return err
		}
		for d := filepath.Dir(full); !dirs[d]; d = filepath.Dir(d) {
			dirs[d] = true
		}
		if f.named {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.file.Fd()), unix.AT_FDCWD, full, unix.AT_SYMLINK_FOLLOW); err != nil {
			return fmt.Errorf("naming what was written: %w", err)
		}
		s.step()
	}
	for d := range dirs {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if replace {
		flags = 0
	}
	from := filepath.Join(s.dir, name)
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, path, flags)
	if errors.Is(err, unix.EINVAL) && !replace { // NFS can't promise it
		if _, err := os.Lstat(path); err == nil {
			return errThere
		}
		err = os.Rename(from, path)
	}
	if errors.Is(err, fs.ErrExist) {
		return errThere
	}
	if err != nil {
		return err
	}
	s.step()
	return syncDir(s.parent)
}

func (s *stage) close() {
	for _, f := range s.files {
		_ = f.file.Close() // what counts was synced
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
	if s.lock >= 0 {
		unix.Close(s.lock)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// File systems that can't, as vfat over FUSE, have nothing better.
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// writeLayout makes a directory in OCI's image layout (image-layout.md), with one image.
func writeLayout(img v1.Image, dir, tag string, o Options) error {
	s, err := newStage(dir, o)
	if err != nil {
		return err
	}
	defer s.close()
	const name = "layout"
	desc := mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Annotations: map[string]string{refName: tag}}}
	index, err := mutate.AppendManifests(empty.Index, desc).RawManifest()
	if err != nil {
		return err
	}
	blob := func(h v1.Hash) string { return filepath.Join(name, "blobs", h.Algorithm, h.Hex) }
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	written := make(map[v1.Hash]bool)
	for _, l := range layers {
		h, err := l.Digest()
		if err != nil || written[h] {
			if err != nil {
				return err
			}
			continue
		}
		written[h] = true
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		if err := s.copy(blob(h), r); err != nil {
			return err
		}
	}
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	manifest, err := img.Digest()
	if err != nil {
		return err
	}
	for file, read := range map[string]func() ([]byte, error){
		blob(config):                img.RawConfigFile,
		blob(manifest):              img.RawManifest,
		name + "/index.json":        func() ([]byte, error) { return index, nil },
		name + "/" + layoutFileName: func() ([]byte, error) { return []byte(layoutFile), nil },
	} {
		b, err := read()
		if err != nil {
			return err
		}
		if err := s.write(file, b); err != nil {
			return err
		}
	}
	return s.publish(name, dir, false)
}

// The file that marks a layout.
const (
	layoutFileName = "oci-layout"
	layoutFile     = `{"imageLayoutVersion":"1.0.0"}`
)

// errThere says that a target exists.
var errThere = errors.New("it is there already: name another, or remove it")

// Replaces says whether an export to place would replace an archive that is there.
func Replaces(place string) bool {
	file, ok := strings.CutPrefix(place, archive)
	st, err := os.Lstat(file)
	return ok && err == nil && st.Mode().IsRegular()
}

// checkTarget refuses an archive that would replace something else than an archive.
func checkTarget(file string, replace bool) error {
	st, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return errors.New("it is there already, and no file")
	case !replace:
		return errThere
	}
	return nil
}

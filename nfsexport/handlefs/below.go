package handlefs

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/overlay/stack"
)

// Handles of directories, over several layers. Asked for one, overlayfs copies up: a
// directory of a lower layer whose parent is in a layer above it too (fs/overlayfs/export.c,
// ovl_connect_layer). It does so in case the parent is ever renamed, as it finds a
// directory by the names above it in its own layer, and of a copy it remembers the
// topmost layer's alone. A board that only reads would write so to its upper, and
// belong to its base from then on.
//
// But a handle says no more than which directory of which layer it is. So it is taken
// where nothing can be copied up: from the same layers, mounted without an upper
// (package stack). And when a directory is renamed, what is below it is copied up
// before: see connect. Below a directory that is not where the layers have it the overlay
// is asked: it may be one that we did not rename, in an upper that a restore or a rebase
// has made, and copies up what is left to copy.

// layers is a stack of layers that roots share.
type layers struct {
	file *os.File
	fd   int
	root unix.Stat_t
	key  string
	refs int // guarded by layerTable
}

// layerTable has one stack for all roots over the same layers.
type layerTable struct {
	mu sync.Mutex
	m  map[string]*layers
}

// get gives the stack of layers; nil when there is but one layer.
func (b *layerTable) get(dirs []string) (*layers, error) {
	if len(dirs) < 2 {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := strings.Join(dirs, "\x00")
	if s := b.m[key]; s != nil {
		s.refs++
		return s, nil
	}
	f, err := stack.Open(dirs)
	if err != nil {
		return nil, err
	}
	s := &layers{file: f, fd: int(f.Fd()), key: key, refs: 1}
	if e := rawfs.Stat(s.fd, &s.root); e != 0 {
		f.Close()
		return nil, fmt.Errorf("looking at the merged layers: %w", e)
	}
	if b.m == nil {
		b.m = map[string]*layers{}
	}
	b.m[key] = s
	return s, nil
}

func (b *layerTable) put(s *layers) {
	if s == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.refs--; s.refs == 0 {
		delete(b.m, s.key)
		s.file.Close()
	}
}

// belowDir is the call's directory in the layers below, open as long as the call runs.
type belowDir struct {
	of *object // nil: none is open
	fd int     // -1: it is not there
}

func (b *belowDir) close(root *root) {
	if b.of != nil && b.fd >= 0 && b.fd != root.layers.fd {
		unix.Close(b.fd)
	}
	*b = belowDir{}
}

// below opens dir in the layers below; -1: it is not there.
func (o *op) below(dir *object) int {
	if o.lower.of == dir {
		return o.lower.fd
	}
	r := o.exp.root
	o.lower.close(r)
	o.lower = belowDir{of: dir, fd: -1}
	switch {
	case dir.isRoot():
		o.lower.fd = r.layers.fd
	case dir.key.Lower():
		h := &o.h
		h.Set(&dir.key)
		fd, e := h.Open(r.layers.fd, unix.O_PATH|unix.O_DIRECTORY)
		if e != 0 {
			break
		}
		if !o.inPlace(dir.fd, fd) {
			unix.Close(fd)
			break
		}
		o.lower.fd = fd
	}
	return o.lower.fd
}

// inPlace says whether a directory has the same path in the overlay as below.
func (o *op) inPlace(dir, below int) bool {
	var a, b [unix.PathMax]byte
	path, ok := o.fs.proc.Path(dir, &a)
	golden, okBelow := o.fs.proc.Path(below, &b)
	at := o.exp.root.path
	return ok && okBelow && len(path) == len(at)+len(golden) && string(path[:len(at)]) == at && bytes.Equal(path[len(at):], golden)
}

// keyBelow is keyOf for what is a directory of the layers below: it copies nothing up.
// Where it is false keyOf asks the overlay: name is no directory, or it is the board's.
// The inode number of the directory that o.k stands for is then o.found.
func (o *op) keyBelow(dir *object, name *rawfs.Name) bool {
	r := o.exp.root
	var st unix.Stat_t
	if o.found = 0; rawfs.StatAt(dir.fd, name, &st) != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Dev != r.dev {
		return false
	}
	switch {
	case name.Is("."):
		o.k = dir.key
	case st.Ino == r.ino:
		o.k = r.key
	default:
		fd := o.below(dir)
		if fd < 0 || name.Is("..") && o.belowTop(fd) || !o.sameBelow(fd, name, &st) || !o.k.Set(&o.h) {
			return false
		}
		o.k.SetExport(o.exp.ID)
	}
	o.found = st.Ino
	return true
}

// belowTop says whether the parent of a directory below is the root there, for which
// there is no handle. In the overlay it need not be: a directory may be moved.
func (o *op) belowTop(fd int) bool {
	var st unix.Stat_t
	e := rawfs.StatAt(fd, &rawfs.Name{'.', '.'}, &st)
	top := &o.exp.root.layers.root
	return e != 0 || st.Ino == top.Ino && st.Dev == top.Dev
}

// sameBelow puts the handle of name in a directory below into o.h, and says whether that
// is the directory with the attributes st: not one that the board has put in its place,
// nor one that is in the upper too. Of these the overlay knows more: a rebase leaves
// some that have handles of their own. Their ctime tells, which is set when they are
// made, after the layers.
func (o *op) sameBelow(fd int, name *rawfs.Name, st *unix.Stat_t) bool {
	var is unix.Stat_t
	if rawfs.StatAt(fd, name, &is) != 0 || is.Ctim != st.Ctim {
		return false
	}
	if _, e := o.h.Of(fd, name); e != 0 {
		return false
	}
	// With xino=on numbers differ, as some say on which file system they are.
	return is.Ino == st.Ino || o.opens(&o.h, st)
}

// opens says whether h is the handle of the object with the attributes st.
func (o *op) opens(h *fhandle.Kernel, st *unix.Stat_t) bool {
	fd, e := h.Open(o.exp.root.fd, unix.O_PATH)
	if e != 0 {
		return false
	}
	defer unix.Close(fd)
	var is unix.Stat_t
	return rawfs.Stat(fd, &is) == 0 && is.Ino == st.Ino && is.Dev == st.Dev
}

// joined says whether the call's directory may be one that a rebase or a restore has
// made, joined with the layers' by its name alone: there the overlay copies up whatever
// directory it makes a handle of.
func (o *op) joined() bool {
	return o.st.Nlink == 1 && !o.obj.isRoot() && o.obj.key.Upper()
}

// handleInSpite is Kernel.Of where the kernel could not copy up, and does not say why: as a
// rule the quota is used up, or the disk is full. A board must be able to look at its
// files then.
func (o *op) handleInSpite(dir int, name *rawfs.Name) (mount int32, e unix.Errno) {
	e = unix.EOVERFLOW
	o.exp.Quota.Relieve(func() { mount, e = o.h.Of(dir, name) })
	if e == unix.EOVERFLOW {
		if o.spare(dir, name) {
			return o.exp.root.mount, 0
		}
		e = o.unsaid()
	}
	return mount, e
}

// unsaid is why the kernel could not copy up for a handle, which it does not say: as long
// as there is space on the disk, a quota that is the file system's.
func (o *op) unsaid() unix.Errno {
	const little = 1 << 20 // some file systems are full before their last block
	if free, err := o.exp.root.Free(false); err == nil && free.Bytes > little && free.Files != 0 {
		return unix.EDQUOT
	}
	return unix.ENOSPC
}

// connect has the overlay copy up what it could not find any more by a handle when
// the directory name in dir has another name: the directories of deeper layers below
// it. It goes down to directories that layers share, as below others there are none.
// It does nothing for what is no directory.
func (o *op) connect(dir int, name *rawfs.Name) unix.Errno {
	if o.exp.root.layers == nil && !o.exp.root.spared.Load() {
		return 0
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	var next []fhandle.Kernel
	fd, e := rawfs.Open(dir, name, flags, 0)
	for {
		if e == 0 {
			e = o.connectKids(fd, &next)
			unix.Close(fd)
		}
		switch e {
		case 0:
		case unix.ENOTDIR, unix.ELOOP, unix.ENOENT, unix.ESTALE: // gone, or no directory
		default:
			return e
		}
		if len(next) == 0 {
			return 0
		}
		o.waits()
		fd, e = next[len(next)-1].Open(o.exp.root.fd, flags)
		next = next[:len(next)-1]
	}
}

// connectKids is connect for one directory; those in it go to next. The link count of
// a directory that is merged is 1.
func (o *op) connectKids(dir int, next *[]fhandle.Kernel) unix.Errno {
	var st unix.Stat_t
	if e := rawfs.Stat(dir, &st); e != 0 || st.Nlink != 1 {
		return e
	}
	buf := make([]byte, rawfs.DirBuf)
	for {
		n, e := rawfs.ReadDir(dir, buf)
		if e != 0 || n == 0 {
			return e
		}
		var ent rawfs.Dirent
		for rest, ok := ent.Next(buf[:n]); ok; rest, ok = ent.Next(rest) {
			if ent.Type != unix.DT_DIR || ent.IsDots() {
				continue
			}
			var name rawfs.Name
			name.Set(string(ent.Name))
			var h fhandle.Kernel
			if _, e := h.Of(dir, &name); e == unix.EOVERFLOW {
				return o.unsaid()
			} else if e != 0 && e != unix.ENOENT {
				return e
			} else if e == 0 && rawfs.StatAt(dir, &name, &st) == 0 && st.Nlink == 1 {
				*next = append(*next, h) // none of a board's own, which may be very many
			}
		}
	}
}

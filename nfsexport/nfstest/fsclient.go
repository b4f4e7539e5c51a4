package nfstest

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// fsClient calls an nfs3.FS as a client kernel would, without one between.
type fsClient struct {
	fs   nfs3.FS
	root []byte
	call nfs3.Call
}

// Direct is the file system that fs serves below the handle root, called from
// peer, seen by root.
func Direct(fs nfs3.FS, root []byte, peer netip.AddrPort) Client {
	return &fsClient{fs: fs, root: root, call: nfs3.Call{Peer: peer}}
}

func (c *fsClient) Kernel() bool { return false }

func (c *fsClient) As(uid, gid uint32, groups ...uint32) Client {
	d := *c
	d.call.UID, d.call.GID, d.call.Groups = uid, gid, groups
	return &d
}

// Errno is the error a client kernel makes of a status.
func Errno(st nfs3.Status) error {
	switch {
	case st == nfs3.OK:
		return nil
	case st == nfs3.ErrNameTooLong:
		return unix.ENAMETOOLONG
	case st == nfs3.ErrNotEmpty:
		return unix.ENOTEMPTY
	case st == nfs3.ErrDQuot:
		return unix.EDQUOT
	case st == nfs3.ErrStale, st == nfs3.ErrBadHandle:
		return unix.ESTALE
	case st == nfs3.ErrJukebox:
		return unix.EAGAIN
	case st == nfs3.ErrNotSupp:
		return unix.EOPNOTSUPP
	case st == nfs3.ErrBadType:
		return unix.EINVAL
	case st < 100:
		return unix.Errno(st) // the numbers of Unix, as RFC 1813 took them
	default:
		return unix.EIO
	}
}

// walk gives the handle of a path.
func (c *fsClient) walk(path string) ([]byte, error) {
	h := c.root
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." {
			continue
		}
		var next []byte
		var a, d nfs3.PostAttr
		if st := c.fs.Lookup(&c.call, h, part, &next, &a, &d); st != nfs3.OK {
			return nil, Errno(st)
		}
		h = next
	}
	return h, nil
}

// parent gives the handle of a path's directory, and its last name.
func (c *fsClient) parent(path string) ([]byte, string, error) {
	dir, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	h, err := c.walk(dir)
	return h, name, err
}

func mode(m uint32) *nfs3.SetAttr { return &nfs3.SetAttr{SetMode: true, Mode: m} }

func (c *fsClient) Open(path string, flags int, m uint32) (File, error) {
	if flags&unix.O_CREAT == 0 {
		h, err := c.walk(path)
		if err != nil {
			return nil, err
		}
		return c.opened(h, flags)
	}
	dir, name, err := c.parent(path)
	if err != nil {
		return nil, err
	}
	how := nfs3.Unchecked
	if flags&unix.O_EXCL != 0 {
		how = nfs3.Guarded
	} else if h, err := c.walk(path); err == nil {
		return c.opened(h, flags)
	}
	var n nfs3.New
	if st := c.fs.Create(&c.call, dir, name, how, mode(m), 0, &n); st != nfs3.OK {
		return nil, Errno(st)
	}
	return &fsFile{c, n.Handle}, nil
}

func (c *fsClient) opened(h []byte, flags int) (File, error) {
	want := uint32(unix.R_OK)
	switch flags & unix.O_ACCMODE {
	case unix.O_WRONLY:
		want = unix.W_OK
	case unix.O_RDWR:
		want = unix.R_OK | unix.W_OK
	}
	if err := c.access(h, want); err != nil {
		return nil, err
	}
	f := &fsFile{c, h}
	if flags&unix.O_TRUNC != 0 {
		return f, c.set(h, &nfs3.SetAttr{SetSize: true, SetMtime: nfs3.SetToServer})
	}
	return f, nil
}

func (c *fsClient) Mkdir(path string, m uint32) error {
	return c.make(path, func(dir []byte, name string, n *nfs3.New) nfs3.Status {
		return c.fs.Mkdir(&c.call, dir, name, mode(m), n)
	})
}

func (c *fsClient) make(path string, f func(dir []byte, name string, n *nfs3.New) nfs3.Status) error {
	dir, name, err := c.parent(path)
	if err != nil {
		return err
	}
	var n nfs3.New
	return Errno(f(dir, name, &n))
}

func (c *fsClient) Symlink(target, path string) error {
	return c.make(path, func(dir []byte, name string, n *nfs3.New) nfs3.Status {
		return c.fs.Symlink(&c.call, dir, name, target, mode(0o777), n)
	})
}

func (c *fsClient) Mknod(path string, m uint32, dev uint64) error {
	if m&unix.S_IFMT == unix.S_IFREG || m&unix.S_IFMT == 0 {
		_, err := c.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, m)
		return err
	}
	t := map[uint32]nfs3.FileType{
		unix.S_IFCHR: nfs3.TypeChar, unix.S_IFBLK: nfs3.TypeBlock, unix.S_IFIFO: nfs3.TypeFifo, unix.S_IFSOCK: nfs3.TypeSocket,
	}[m&unix.S_IFMT]
	return c.make(path, func(dir []byte, name string, n *nfs3.New) nfs3.Status {
		return c.fs.Mknod(&c.call, dir, name, t, unix.Major(dev), unix.Minor(dev), mode(m&0o7777), n)
	})
}

func (c *fsClient) Link(old, path string) error {
	h, err := c.walk(old)
	if err != nil {
		return err
	}
	dir, name, err := c.parent(path)
	if err != nil {
		return err
	}
	var a nfs3.PostAttr
	var w nfs3.Wcc
	return Errno(c.fs.Link(&c.call, h, dir, name, &a, &w))
}

func (c *fsClient) Rename(old, path string) error {
	from, fromName, err := c.parent(old)
	if err != nil {
		return err
	}
	to, toName, err := c.parent(path)
	if err != nil {
		return err
	}
	var w1, w2 nfs3.Wcc
	return Errno(c.fs.Rename(&c.call, from, fromName, to, toName, &w1, &w2))
}

func (c *fsClient) Unlink(path string) error { return c.remove(path, c.fs.Remove) }
func (c *fsClient) Rmdir(path string) error  { return c.remove(path, c.fs.Rmdir) }

func (c *fsClient) remove(path string, f func(*nfs3.Call, []byte, string, *nfs3.Wcc) nfs3.Status) error {
	dir, name, err := c.parent(path)
	if err != nil {
		return err
	}
	var w nfs3.Wcc
	return Errno(f(&c.call, dir, name, &w))
}

func (c *fsClient) Readlink(path string) (string, error) {
	h, err := c.walk(path)
	if err != nil {
		return "", err
	}
	var text []byte
	var a nfs3.PostAttr
	err = Errno(c.fs.ReadLink(&c.call, h, &text, &a))
	return string(text), err
}

func (c *fsClient) Lstat(path string) (unix.Stat_t, error) {
	h, err := c.walk(path)
	if err != nil {
		return unix.Stat_t{}, err
	}
	return c.stat(h)
}

func (c *fsClient) stat(h []byte) (unix.Stat_t, error) {
	var a nfs3.Attr
	if st := c.fs.GetAttr(&c.call, h, &a); st != nfs3.OK {
		return unix.Stat_t{}, Errno(st)
	}
	types := [...]uint32{0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK, unix.S_IFCHR, unix.S_IFLNK, unix.S_IFSOCK, unix.S_IFIFO}
	ts := func(t nfs3.Time) unix.Timespec { return unix.Timespec{Sec: int64(t.Sec), Nsec: int64(t.Nsec)} }
	st := unix.Stat_t{
		Dev: a.FSID, Ino: a.FileID, Mode: types[a.Type] | a.Mode, Uid: a.UID, Gid: a.GID, Rdev: unix.Mkdev(a.Major, a.Minor),
		Size: int64(a.Size), Blocks: int64(a.Used / 512), Atim: ts(a.Atime), Mtim: ts(a.Mtime), Ctim: ts(a.Ctime), Blksize: 4096,
	}
	setNlink(&st, a.Nlink)
	return st, nil
}

func setNlink(st *unix.Stat_t, n uint32) {
	switch p := any(&st.Nlink).(type) { // its size differs between machines
	case *uint64:
		*p = uint64(n)
	case *uint32:
		*p = n
	}
}

func (c *fsClient) Access(path string, want uint32) error {
	h, err := c.walk(path)
	if err != nil {
		return err
	}
	return c.access(h, want)
}

func (c *fsClient) access(h []byte, want uint32) error {
	st, err := c.stat(h)
	if err != nil {
		return err
	}
	var bits uint32
	if want&unix.R_OK != 0 {
		bits |= 1
	}
	if want&unix.W_OK != 0 {
		bits |= 4
	}
	if want&unix.X_OK != 0 {
		if bits |= 0x20; st.Mode&unix.S_IFMT == unix.S_IFDIR {
			bits ^= 0x20 | 2
		}
	}
	var a nfs3.PostAttr
	got, s := c.fs.Access(&c.call, h, bits, &a)
	if s == nfs3.OK && got != bits {
		return unix.EACCES
	}
	return Errno(s)
}

func (c *fsClient) set(h []byte, s *nfs3.SetAttr) error {
	var w nfs3.Wcc
	return Errno(c.fs.SetAttr(&c.call, h, s, nil, &w))
}

func (c *fsClient) setPath(path string, s *nfs3.SetAttr) error {
	h, err := c.walk(path)
	if err != nil {
		return err
	}
	return c.set(h, s)
}

func (c *fsClient) Chmod(path string, m uint32) error { return c.setPath(path, mode(m)) }

func (c *fsClient) Chown(path string, uid, gid int) error {
	return c.setPath(path, &nfs3.SetAttr{SetUID: uid != -1, SetGID: gid != -1, UID: uint32(uid), GID: uint32(gid)})
}

func (c *fsClient) Utimes(path string, atime, mtime unix.Timespec) error {
	conv := func(t unix.Timespec) (nfs3.SetTime, nfs3.Time) {
		switch t.Nsec {
		case unix.UTIME_NOW:
			return nfs3.SetToServer, nfs3.Time{}
		case unix.UTIME_OMIT:
			return nfs3.KeepTime, nfs3.Time{}
		}
		return nfs3.SetToClient, nfs3.Time{Sec: uint32(t.Sec), Nsec: uint32(t.Nsec)}
	}
	var s nfs3.SetAttr
	s.SetAtime, s.Atime = conv(atime)
	s.SetMtime, s.Mtime = conv(mtime)
	return c.setPath(path, &s)
}

func (c *fsClient) Truncate(path string, size int64) error {
	h, err := c.walk(path)
	if err != nil {
		return err
	}
	if err := c.access(h, unix.W_OK); err != nil {
		return err
	}
	return c.set(h, &nfs3.SetAttr{SetSize: true, Size: uint64(size)})
}

func (c *fsClient) Statfs() (unix.Statfs_t, error) {
	var s nfs3.FSStat
	var a nfs3.PostAttr
	err := Errno(c.fs.FSStat(&c.call, c.root, &s, &a))
	return unix.Statfs_t{Bsize: 1, Blocks: s.Tbytes, Bfree: s.Fbytes, Bavail: s.Abytes, Files: s.Tfiles, Ffree: s.Ffiles}, err
}

type fsFile struct {
	c *fsClient
	h []byte
}

func (f *fsFile) ReadAt(p []byte, off int64) (int, error) {
	var a nfs3.PostAttr
	n, _, st := f.c.fs.Read(&f.c.call, f.h, uint64(off), p, &a)
	return n, Errno(st)
}

func (f *fsFile) WriteAt(p []byte, off int64) (int, error) {
	var w nfs3.Wcc
	n, _, st := f.c.fs.Write(&f.c.call, f.h, uint64(off), p, nfs3.Unstable, &w)
	return n, Errno(st)
}

func (f *fsFile) Sync() error {
	var w nfs3.Wcc
	return Errno(f.c.fs.Commit(&f.c.call, f.h, 0, 0, &w))
}

func (f *fsFile) Stat() (unix.Stat_t, error) { return f.c.stat(f.h) }

func (f *fsFile) Close() error { return nil }

func (c *fsClient) OpenDir(path string) (Dir, error) {
	h, err := c.walk(path)
	if err != nil {
		return nil, err
	}
	return &fsDir{c: c, h: h}, c.access(h, unix.R_OK)
}

type fsDir struct {
	c      *fsClient
	h      []byte
	cookie uint64
	eof    bool
}

func (d *fsDir) Next() (out []Name, err error) {
	for len(out) == 0 && !d.eof {
		var verf uint64
		var a nfs3.PostAttr
		left := 100
		eof, st := d.c.fs.ReadDir(&d.c.call, d.h, d.cookie, &verf, false, nfs3.EntryFunc(func(e *nfs3.Entry) bool {
			if left--; left < 0 {
				return false
			}
			d.cookie = e.Cookie
			if e.Name != "." && e.Name != ".." {
				out = append(out, Name{strings.Clone(e.Name), e.FileID})
			}
			return true
		}), &a)
		if st != nfs3.OK {
			return nil, Errno(st)
		}
		d.eof = eof
	}
	return out, nil
}

func (d *fsDir) Close() error { return nil }

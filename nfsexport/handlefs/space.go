package handlefs

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/reserve"
	"rubus/nfsexport/handlefs/spending"
	"rubus/nfsexport/nfs3"
)

// How boards are kept off the reserve of the disk: before a call does anything it takes
// the space that it may need at most, as for a quota (see quota.go), or is refused. A
// change of a golden file needs what its copy does. What removes or cuts off asks for
// none, though the kernel may copy a directory for it, or a file that has other names.

// fits takes so many bytes of the disk for the call; false: they are not there. With
// small it is for what may use half of the reserve, see reserve.Disk.
func (o *op) fits(bytes int64, small bool) bool {
	if o.fs.opts.Reserve == 0 || bytes == 0 {
		return true
	}
	ok, news := o.exp.root.disk.Take(bytes, small, o.now(), o.exp.root)
	if ok {
		o.room += bytes
	}
	switch news {
	case reserve.Low:
		o.fs.event(SpaceLow, slog.LevelWarn, "free space would fall below the reserve: what boards add is refused", o.exp.ID, nil)
	case reserve.Back:
		o.fs.event(SpaceBack, slog.LevelInfo, "free space is above the reserve again", o.exp.ID, nil)
	case reserve.Large:
		o.fs.event(SpaceShort, slog.LevelWarn, "a change was refused that needs more space than there is above the reserve (a large golden file is copied when it is changed)", o.exp.ID, nil)
	}
	return ok
}

// leaveRoom ends what fits took: the change is made, and the kernel knows of it.
func (o *op) leaveRoom() {
	if o.room != 0 {
		o.exp.root.disk.End(o.room)
		o.room = 0
	}
}

// copyUp is the space that a change takes when it copies up what has the key k and the
// attributes st; 0: it does not.
func (o *op) copyUp(k *fhandle.Key, st *unix.Stat_t) int64 {
	switch {
	case !k.Lower() || o.inUpper(k):
		return 0
	case st.Mode&unix.S_IFMT != unix.S_IFREG || o.exp.root.clones:
		return spending.Block
	}
	return spending.Bytes(st) + spending.Block
}

// fitsMaking is for a new object: it takes a block itself, and its name may take one.
func (o *op) fitsMaking() bool { return o.fits(2*spending.Block, false) }

// fitsLink is for another name of the call's object.
func (o *op) fitsLink() bool {
	return o.fs.opts.Reserve == 0 || o.fits(o.copyUp(&o.obj.key, &o.st)+spending.Block, false)
}

// fitsRename is for another name of what o.name stands for. The directories may be copied
// up.
func (o *op) fitsRename() bool {
	if o.fs.opts.Reserve == 0 {
		return true
	}
	var st unix.Stat_t
	up := int64(0)
	if rawfs.StatAt(o.obj.fd, &o.name, &st) == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Blocks > 0 && o.keyOf(o.obj, &o.name) == 0 {
		up = o.copyUp(&o.k, &st)
	}
	return o.fits(up+2*spending.Block, up <= spending.Block)
}

// fitsChange is for a change of attributes. A file that grows has a hole there, which is
// refused where nothing could be written into it.
func (o *op) fitsChange(obj *object, st *unix.Stat_t, s *nfs3.SetAttr) bool {
	if o.fs.opts.Reserve == 0 || cutsAll(obj, st, s) {
		return true
	}
	need := o.copyUp(&obj.key, st)
	small := need <= spending.Block
	if s.SetSize && s.Size > uint64(st.Size) {
		need, small = need+spending.Block, false
	}
	return o.fits(need, small)
}

// fitsWrite is for a write of n bytes to the call's object.
func (o *op) fitsWrite(off int64, n int) bool {
	if o.fs.opts.Reserve == 0 {
		return true
	}
	need, inside := spending.Growth(&o.st, off, int64(n))
	if need == 0 && o.exp.root.disk.shares {
		// What is written over may be a snapshot's, too, or a layer's.
		need, inside = spending.Over(off, int64(n)), true
	}
	if o.obj.rw.Load() < 0 {
		if up := o.copyUp(&o.obj.key, &o.st); up > 0 {
			need, inside = need+up, false
		}
	}
	return o.fits(need, false) || inside && o.hasPlace(off, int64(n))
}

// hasPlace says whether the call's file has blocks of its own for n bytes at off, which
// are in it or behind it in its last block.
func (o *op) hasPlace(off, n int64) bool {
	n = min(n, o.st.Size-off)
	if n <= 0 {
		return true
	}
	if !o.exp.root.disk.shares {
		return o.isWhole(off, n)
	}
	fd, e := o.reader()
	return e == 0 && rawfs.HasOwn(fd, off, n)
}

// FSStat implements nfs3.FS. The reserve is not available to boards, and what its
// quota leaves to a board is its disk. Where the kernel keeps the quota, it says so
// itself.
func (fs *FS) FSStat(c *nfs3.Call, fh []byte, s *nfs3.FSStat, a *nfs3.PostAttr) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.post(&o.st, a)
	var f unix.Statfs_t
	if e := rawfs.Errno(unix.Fstatfs(o.exp.root.fd, &f)); e != 0 {
		return status(e)
	}
	b := uint64(f.Bsize)
	*s = nfs3.FSStat{
		Tbytes: f.Blocks * b, Fbytes: f.Bfree * b, Abytes: f.Bavail * b,
		Tfiles: f.Files, Ffiles: f.Ffree, Afiles: f.Ffree,
	}
	free, err := o.exp.root.Free(false)
	if err != nil {
		return status(rawfs.Errno(err))
	}
	s.Abytes = min(s.Abytes, uint64(max(0, free.Bytes-int64(fs.opts.Reserve))))
	if q := o.quota(); q != nil {
		left(s, q.Max(), q.Used())
	}
	return nfs3.OK
}

// left makes an answer about a disk one about what a quota leaves of it. What is used
// of it, total without free, is what the board has.
func left(s *nfs3.FSStat, most, used nfsexport.Space) {
	if most.Bytes > 0 {
		free := uint64(max(0, most.Bytes-used.Bytes))
		s.Abytes = min(s.Abytes, free)
		s.Fbytes = min(s.Fbytes, free)
		s.Tbytes = min(s.Fbytes+uint64(max(0, used.Bytes)), s.Tbytes)
	}
	if most.Files > 0 {
		free := uint64(max(0, most.Files-used.Files))
		if s.Tfiles == 0 { // a file system that does not count them
			s.Ffiles, s.Afiles, s.Tfiles = free, free, free+uint64(max(0, used.Files))
		}
		s.Afiles = min(s.Afiles, free)
		s.Ffiles = min(s.Ffiles, free)
		s.Tfiles = min(s.Ffiles+uint64(max(0, used.Files)), s.Tfiles)
	}
}

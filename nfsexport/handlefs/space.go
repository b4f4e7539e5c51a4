package handlefs

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// level says how much of the file system's space boards may still use.
type level int32

const (
	roomy  level = iota
	low          // below the reserve: nothing may grow
	scarce       // below half of it: nothing may change but by removal, since a change may copy up
)

// minInodes is the reserve of inodes, where the file system counts them.
const minInodes = 1024

// space is what an export knows of the free space below its overlay. It is
// asked once a second at most.
type space struct {
	asked atomic.Int64 // nanoseconds of the Unix clock
	level atomic.Int32
}

// room gives the level now. It asks the kernel when a second has passed.
func (o *op) room() level {
	if o.fs.opts.Reserve == 0 {
		return roomy
	}
	s := o.exp.space
	now := o.now().UnixNano()
	was := s.asked.Load()
	if d := now - was; d >= 0 && d < int64(time.Second) || !s.asked.CompareAndSwap(was, now) {
		return level(s.level.Load())
	}
	var fsstat unix.Statfs_t
	if o.exp.root.statfs(&fsstat) != 0 {
		return level(s.level.Load())
	}
	free, l := fsstat.Bavail*uint64(fsstat.Bsize), roomy
	switch {
	case free < o.fs.opts.Reserve/2:
		l = scarce
	case free < o.fs.opts.Reserve, fsstat.Files > 0 && fsstat.Ffree < minInodes:
		l = low
	}
	if old := level(s.level.Swap(int32(l))); (old == roomy) != (l == roomy) {
		if l == roomy {
			o.fs.event(SpaceBack, slog.LevelInfo, "free space is above the reserve again", o.exp.ID, nil)
		} else {
			o.fs.event(SpaceLow, slog.LevelWarn, "free space is below the reserve: the board's writes are refused", o.exp.ID, nil)
		}
	}
	return l
}

// statfs asks the file system below the overlay. Where that has quotas of its own,
// the overlay's answer would be the board's.
func (r *root) statfs(st *unix.Statfs_t) unix.Errno {
	if r.disk >= 0 {
		return rawfs.Errno(unix.Fstatfs(r.disk, st))
	}
	return rawfs.Errno(unix.Fstatfs(r.fd, st))
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
	var disk unix.Statfs_t
	if e := o.exp.root.statfs(&disk); e != 0 {
		return status(e)
	}
	avail := disk.Bavail * uint64(disk.Bsize)
	s.Abytes = min(s.Abytes, avail-min(avail, fs.opts.Reserve))
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

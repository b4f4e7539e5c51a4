package handlefs

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

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
	if unix.Fstatfs(o.exp.root.fd, &fsstat) != nil {
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

// FSStat implements nfs3.FS. The reserve is not available to boards.
func (fs *FS) FSStat(c *nfs3.Call, fh []byte, s *nfs3.FSStat, a *nfs3.PostAttr) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.post(&o.st, a)
	var f unix.Statfs_t
	if e := errnoOf(unix.Fstatfs(o.exp.root.fd, &f)); e != 0 {
		return status(e)
	}
	b := uint64(f.Bsize)
	*s = nfs3.FSStat{
		Tbytes: f.Blocks * b, Fbytes: f.Bfree * b, Abytes: f.Bavail * b,
		Tfiles: f.Files, Ffiles: f.Ffree, Afiles: f.Ffree,
	}
	s.Abytes -= min(s.Abytes, fs.opts.Reserve)
	return nfs3.OK
}

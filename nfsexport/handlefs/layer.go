package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/stamp"
)

// A golden file is read from the layer that it lies in, past the overlay: that is the same
// inode with the same pages, but two fifths of what opening it costs are saved, and a
// fifth of a small read. It must not go on when the file is copied up, whoever does it.
// Then its times are others, as the copy has a ctime of its own, which nobody can set: so
// the layer is read only by a call that found the attributes that the layer's file had
// when it was opened. What a client gets so is of one moment, attributes and data.

// golden says whether the call's object is read from its layer and was the layer's file
// when the call looked at it: what is there never changes. (While it is written to for
// the first time its client may be sent what it writes, as by any server.)
func (o *op) golden() bool { return o.obj.inLayer.Load() && o.obj.layer == stamp.Identify(&o.st) }

// openLayer opens the call's object in its layer; its lock open is held. It gives -1 when
// the object is the board's, or nobody can tell. The handle of the overlay says which inode
// it is of the layers' file system, and its MAC that we made it. The index is on the file
// system of the upper: if that has the layers, too, the overlay's inode numbers are its
// own, and the inode with the number of the object is what the overlay shows.
func (o *op) openLayer() int {
	obj := o.obj
	r := o.exp.root
	if r.index < 0 || !obj.key.Lower() || !obj.key.SameDisk(&r.key) {
		return -1
	}
	// A copy from now on is not taken for the file: it is younger. One from before has an
	// entry in the index.
	s := stamp.Identify(&o.st)
	if !s.Settled(o.fs.stampTime()) || o.inUpper(&obj.key) {
		return -1
	}
	if !obj.key.Inner(&o.h) {
		return -1
	}
	fd, e := o.h.Open(r.index, unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK|unix.O_NOCTTY)
	if e != 0 {
		return -1
	}
	var st unix.Stat_t
	if e := rawfs.Stat(fd, &st); e != 0 || stamp.Identify(&st) != s {
		unix.Close(fd)
		return -1
	}
	obj.layer = s
	return fd
}

// leaveLayer has the descriptor that reads obj from its layer read what fd does from now
// on, also for calls that are about to use it; obj.open is held.
func (obj *object) leaveLayer(fd int) unix.Errno {
	e := rawfs.Errno(unix.Dup3(fd, int(obj.ro.Load()), unix.O_CLOEXEC))
	if e == 0 {
		obj.inLayer.Store(false)
	}
	return e
}

package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
)

// shows is for a name in the call's directory, of what o.k stands for, that is about to be told.
func (o *op) shows(name string) {
	o.lister.shown.Add(o.fs.shown, o.exp.root.image, o.dir.key, &o.k, name)
}

// openShown opens what o.k stands for by the name that was told with its handle, if it
// has that name still; -1: it is to be opened by its handle.
func (o *op) openShown() int {
	r := o.exp.root
	of, called := o.fs.shown.Find(r.image, &o.k)
	if of == nil {
		return -1
	}
	dir := *of
	dir.SetExport(o.exp.ID)
	h := &o.h
	at := -1
	if obj := o.fs.cache.get(&dir, r); obj != nil {
		defer o.fs.cache.release(obj)
		at = obj.fd
	} else {
		h.Set(&dir)
		fd, err := h.Open(r.fd, unix.O_PATH|unix.O_DIRECTORY)
		if err != 0 {
			return -1
		}
		defer unix.Close(fd)
		at = fd
	}
	var name rawfs.Name
	name.Set(called)
	fd, err := rawfs.Open(at, &name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != 0 {
		return -1
	}
	var own fhandle.Kernel
	h.Set(&o.k)
	if m, err := own.Of(fd, nil); err != 0 || m != r.mount || !own.Equal(h) {
		unix.Close(fd)
		return -1
	}
	return fd
}

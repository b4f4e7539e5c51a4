package handlefs

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/rawfs"
)

// spare puts into o.h the handle of a directory that is a layer's and that the kernel would
// have copied up for it, if there were room: the one that it has after that, too. It is made
// of the layer's own, at the same path, and of what all handles of this overlay begin with.
// From then on what is below a directory that is renamed is copied up first, see connect.
func (o *op) spare(dir int, name *rawfs.Name) bool {
	fd := dir
	if name != nil {
		var e unix.Errno
		if fd, e = rawfs.Open(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); e != 0 {
			return false
		}
		defer unix.Close(fd)
	}
	var st unix.Stat_t
	var buf [unix.PathMax]byte
	path, ok := o.fs.proc.Path(fd, &buf)
	path, in := bytes.CutPrefix(path, []byte(o.exp.root.path+"/"))
	if !ok || !in || rawfs.Stat(fd, &st) != 0 {
		return false
	}
	for _, layer := range slices.Backward(o.exp.Layers) {
		if o.spareOf(layer, string(path)) && o.opens(&o.h, &st) {
			o.exp.root.spared.Store(true)
			return true
		}
	}
	return false
}

// spareOf is spare for the directory at path of one layer.
func (o *op) spareOf(layer, path string) bool {
	at, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(at)
	fd, err := unix.Openat2(at, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var in fhandle.Kernel
	if _, e := in.Of(fd, nil); e != 0 {
		return false
	}
	return o.h.SetLower(&in, &o.exp.root.key)
}

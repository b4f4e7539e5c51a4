package handlefs

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/nfs3"
)

// settle brings what the call changed to disk unless the export is Async. A
// call that failed changed nothing worth waiting for.
func (o *op) settle(st nfs3.Status) nfs3.Status {
	o.altered()
	o.leaveRoom()
	if st != nfs3.OK || o.exp.Async {
		return st
	}
	o.waits()
	if e := o.exp.root.commits.Sync(); e != 0 {
		o.fs.syncFailed(o.exp.root, e)
		return nfs3.ErrIO
	}
	return nfs3.OK
}

// waits tells who called that the call is about to wait for a disk.
func (o *op) waits() {
	if o.c.Waits != nil {
		o.c.Waits()
	}
}

// copies tells that the call will wait, if it is about to copy obj up: the kernel reads all
// of a golden file, writes it, and brings the copy to disk.
func (o *op) copies(obj *object) {
	if obj.key.Lower() && !o.inUpper(&obj.key) {
		o.waits()
	}
}

// Settle implements nfs3.FS. The sync of the names speaks for the whole export.
func (fs *FS) Settle(c *nfs3.Call, fh []byte) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	return o.settle(nfs3.OK)
}

// syncFailed notes that something acknowledged may be lost: the export's write
// verifier changes, so that the client sends its unstable data again.
func (fs *FS) syncFailed(r *root, err unix.Errno) {
	r.lost.Add(1)
	fs.event(SyncFailed, slog.LevelError, "bringing data to disk failed", r.id, err)
}

// WriteVerifier implements nfs3.FS. It differs between exports, starts, and
// before and after a failed sync.
func (fs *FS) WriteVerifier(fh []byte) uint64 {
	var k fhandle.Key
	v := fs.opts.Seed
	if _, ok := fhandle.Parse(fh, &k); ok {
		if e := (*fs.table.Load())[k.Export()]; e != nil {
			v += e.lost.Load()
		}
	}
	return v
}

package handlefs

import (
	"math"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/commit"
	"rubus/nfsexport/handlefs/creds"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/nfs3"
)

// wantFile says what a call for regular files answers for obj.
func wantFile(obj *object) nfs3.Status {
	switch obj.typ {
	case unix.S_IFREG:
		return nfs3.OK
	case unix.S_IFDIR:
		return nfs3.ErrIsDir
	default:
		return nfs3.ErrInval
	}
}

// Read implements nfs3.FS.
func (fs *FS) Read(c *nfs3.Call, fh []byte, off uint64, buf []byte, a *nfs3.PostAttr) (n int, eof bool, st nfs3.Status) {
	p := [1]nfs3.Piece{{Off: off, Data: buf}}
	if st = fs.ReadAll(c, fh, p[:], a); st == nfs3.OK {
		st = p[0].Status
	}
	return p[0].N, p[0].EOF, st
}

// ReadAll implements nfs3.FS. The owner may always read, since a client has
// checked at open and the mode may have changed since; who may only execute
// reads too, or no one could run the program.
func (fs *FS) ReadAll(c *nfs3.Call, fh []byte, pieces []nfs3.Piece, a *nfs3.PostAttr) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.post(&o.st, a)
	if st := wantFile(o.obj); st != nfs3.OK {
		return st
	}
	if !o.owns(&o.st) && !o.may(o.obj, &o.st, creds.Read) && !o.may(o.obj, &o.st, creds.Exec) {
		return nfs3.ErrAcces
	}
	fd, e, moves := -1, unix.Errno(0), false
	total := 0
	for i := range pieces {
		p := &pieces[i]
		o.noteInit(p.Off)
		if p.Off >= uint64(o.st.Size) { // also keeps offsets near 2^64 from the kernel
			p.EOF = true
			continue
		}
		if len(p.Data) == 0 { // nor would the kernel touch the file
			continue
		}
		if fd < 0 && e == 0 {
			if fd, e = o.reader(); e == 0 {
				moves = !o.golden() && o.access(o.obj)
			}
		}
		if e != 0 {
			p.Status = status(e)
			continue
		}
		var failed unix.Errno
		if p.N = o.splice(fd, p.Off, len(p.Data)); p.N == 0 {
			p.N, failed = rawfs.Read(fd, p.Data, int64(p.Off))
		}
		p.Status = status(failed)
		total += p.N
	}
	if moves {
		o.accessed(o.obj, a)
	}
	for i := range pieces {
		o.seeEnd(&pieces[i], a)
	}
	if total > 0 {
		o.exp.Activity.BytesRead.Add(uint64(total))
	}
	return nfs3.OK
}

// seeEnd says whether what was read of a file reaches its end.
func (o *op) seeEnd(p *nfs3.Piece, a *nfs3.PostAttr) {
	if p.Status != nfs3.OK || p.EOF || len(p.Data) == 0 {
		return
	}
	end := p.Off + uint64(p.N)
	p.EOF = end >= uint64(o.st.Size)
	if p.N < len(p.Data) && !p.EOF { // cut off while it was read
		o.postNow(o.obj, a)
		p.EOF = end >= a.Size
	}
}

func (o *op) noteInit(off uint64) {
	if off == 0 && o.exp.Init != 0 && o.st.Ino == o.exp.Init {
		o.exp.Activity.InitRead.Store(o.fs.opts.Now().UnixNano())
	}
}

// Write implements nfs3.FS.
func (fs *FS) Write(c *nfs3.Call, fh []byte, off uint64, data []byte, how nfs3.Stable, w *nfs3.Wcc) (n int, done nfs3.Stable, st nfs3.Status) {
	p := [1]nfs3.Piece{{Off: off, Data: data}}
	if st = fs.write(c, fh, p[:], how, w); st == nfs3.OK {
		st = p[0].Status
	}
	return p[0].N, how, st
}

// WriteAll implements nfs3.FS.
func (fs *FS) WriteAll(c *nfs3.Call, fh []byte, pieces []nfs3.Piece, w *nfs3.Wcc) nfs3.Status {
	return fs.write(c, fh, pieces, nfs3.Unstable, w)
}

// write writes pieces. The owner may always write: a program that creates a file with
// mode 0444 writes to it through the descriptor it got.
func (fs *FS) write(c *nfs3.Call, fh []byte, pieces []nfs3.Piece, how nfs3.Stable, w *nfs3.Wcc) nfs3.Status {
	o, st := fs.beginChange(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.preNow(o.obj, &w.Before)
	defer o.postNow(o.obj, &w.After)
	if st := wantFile(o.obj); st != nfs3.OK {
		return st
	}
	if !o.owns(&o.st) && !o.may(o.obj, &o.st, creds.Write) {
		return nfs3.ErrAcces
	}
	total := 0
	for i := range pieces {
		p := &pieces[i]
		p.Status = o.writePiece(p)
		total += p.N
	}
	o.leaveRoom()
	if total == 0 {
		return nfs3.OK
	}
	o.exp.Activity.BytesWritten.Add(uint64(total))
	if how == nfs3.Unstable {
		return nfs3.OK
	}
	return o.flush(how == nfs3.DataSync)
}

// writePiece writes one piece to the call's object, and brings o.st's size up to date.
func (o *op) writePiece(p *nfs3.Piece) nfs3.Status {
	n := len(p.Data) + o.c.Poured // one of them is 0
	if p.Off > math.MaxInt64 || uint64(n) > math.MaxInt64-p.Off {
		return nfs3.ErrFBig
	}
	if n == 0 {
		return nfs3.OK
	}
	if !o.fitsWrite(int64(p.Off), n) {
		return nfs3.ErrNoSpc
	}
	if q := o.quota(); q != nil {
		sp, st := o.spendWrite(q, p.Off, n)
		if st != nfs3.OK {
			return st
		}
		defer o.spent(&sp)
	}
	fd, e := o.writer(o.obj)
	if e != 0 {
		return status(e)
	}
	o.altersFile(o.obj)
	o.obj.dirty.Store(true)
	p.N, e = o.pwrite(fd, p.Data, int64(p.Off))
	o.st.Size = max(o.st.Size, int64(p.Off)+int64(p.N))
	return status(e)
}

// spent ends what a write to the call's object was given, which may write more.
func (o *op) spent(sp *taken) {
	if sp.end(o.obj); o.counted == o.obj {
		o.st = o.after
	}
}

// pwrite writes as much as goes. When there are set-id bits to lose, it writes
// as the caller: the kernel clears them for all who lack CAP_FSETID.
func (o *op) pwrite(fd int, data []byte, off int64) (n int, e unix.Errno) {
	if o.c.UID == 0 || o.st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return o.putData(fd, data, off)
	}
	return o.pwriteAs(fd, data, off)
}

// putData writes data, or what the call has instead.
func (o *op) putData(fd int, data []byte, off int64) (n int, e unix.Errno) {
	if o.c.Poured == 0 {
		return rawfs.Write(fd, data, off)
	}
	n, err := o.c.Pour(fd, off)
	if err != nil {
		return 0, rawfs.Errno(err)
	}
	return n, 0
}

// pwriteAs has a function to itself for what the closure takes from the heap.
func (o *op) pwriteAs(fd int, data []byte, off int64) (n int, e unix.Errno) {
	e = o.as(func() (e unix.Errno) {
		n, e = o.putData(fd, data, off)
		return e
	})
	return n, e
}

// flush brings the object's data to disk; those who come meanwhile share the
// next run.
func (o *op) flush(dataOnly bool) nfs3.Status {
	obj := o.obj
	// The descriptor that was written through may be gone with one of the file's
	// names; any other brings the same data to disk, and tells the same failure.
	fd, e := o.reader()
	if e != 0 {
		return status(e)
	}
	sp := o.watch(obj)
	defer sp.end(obj) // what its writes take is known for sure when they are done
	o.waits()
	if dataOnly {
		e = commit.Data(fd)
	} else {
		e = obj.syncs.Do(func() unix.Errno {
			obj.dirty.Store(false)
			return commit.File(fd)
		})
	}
	if e != 0 {
		o.fs.syncFailed(o.exp.root, e)
		return nfs3.ErrIO
	}
	return nfs3.OK
}

// Commit implements nfs3.FS. It brings the whole file to disk, as the range is
// a hint, and asks for no permission: it changes nothing that was not written.
func (fs *FS) Commit(c *nfs3.Call, fh []byte, _ uint64, _ uint32, w *nfs3.Wcc) nfs3.Status {
	o, st := fs.begin(c, fh)
	if st != nfs3.OK {
		return st
	}
	defer o.end()
	o.preNow(o.obj, &w.Before)
	defer o.postNow(o.obj, &w.After)
	if st := wantFile(o.obj); st != nfs3.OK {
		return st
	}
	o.altersFile(o.obj)
	return o.flush(false)
}

package nfsload

import (
	"bytes"
	"fmt"
	"strings"

	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/xdr"
)

// Handle is a file handle of the server.
type Handle []byte

// NFS makes a call of the NFS program.
func NFS(procedure uint32, args func(*xdr.Writer)) Call {
	return Encode(nfs3.Number, nfs3.Version, procedure, args)
}

// Mount asks the MOUNT program at the other end of c for the handle of a path.
func (c *Conn) Mount(path string) (Handle, error) {
	r, err := c.Do(Encode(mount3.Number, mount3.Version, 1, func(w *xdr.Writer) { w.String(path) }))
	if err != nil {
		return nil, err
	}
	d := xdr.NewReader(r.Results)
	st := d.Uint32()
	h := bytes.Clone(d.Opaque(nfs3.MaxHandle))
	if !r.Accepted || st != 0 || !d.OK() {
		return nil, fmt.Errorf("mounting %q: status %d", path, st)
	}
	return h, nil
}

// Walk looks up a path below dir, name by name.
func (c *Conn) Walk(dir Handle, path string) (Handle, error) {
	for name := range strings.SplitSeq(path, "/") {
		r, err := c.Do(Lookup(dir, name))
		if err != nil {
			return nil, err
		}
		d := xdr.NewReader(r.Results)
		st := d.Uint32()
		dir = bytes.Clone(d.Opaque(nfs3.MaxHandle))
		if !r.Accepted || st != 0 || !d.OK() {
			return nil, fmt.Errorf("looking up %q of %q: status %d", name, path, st)
		}
	}
	return dir, nil
}

// List makes the calls by which a whole directory is read with READDIRPLUS, and
// gives the number of its entries.
func (c *Conn) List(dir Handle, dirCount, maxCount uint32) (calls []Call, entries int, err error) {
	var cookie, verf uint64
	for {
		call := ReadDirPlus(dir, cookie, verf, dirCount, maxCount)
		calls = append(calls, call)
		r, err := c.Do(call)
		if err != nil {
			return nil, 0, err
		}
		d := xdr.NewReader(r.Results)
		if st := d.Uint32(); !r.Accepted || st != 0 {
			return nil, 0, fmt.Errorf("listing: status %d", st)
		}
		skipAttr(&d)
		verf = d.Uint64()
		before := entries
		for d.Bool() {
			d.Uint64()
			d.Opaque(nfs3.MaxName)
			cookie = d.Uint64()
			skipAttr(&d)
			if d.Bool() {
				d.Opaque(nfs3.MaxHandle)
			}
			entries++
		}
		eof := d.Bool()
		switch {
		case !d.OK():
			return nil, 0, fmt.Errorf("listing: an answer of %d bytes that is none", r.Size)
		case eof:
			return calls, entries, nil
		case entries == before:
			return nil, 0, fmt.Errorf("listing: no end")
		}
	}
}

// skipAttr passes over a post_op_attr.
func skipAttr(d *xdr.Reader) {
	if d.Bool() {
		d.Skip(84)
	}
}

// GetAttr, Access and the others below make one call each.
func GetAttr(h Handle) Call {
	return NFS(nfs3.ProcGetAttr, func(w *xdr.Writer) { w.Opaque(h) })
}

// Access asks for all that there is to ask for.
func Access(h Handle) Call {
	return NFS(nfs3.ProcAccess, func(w *xdr.Writer) { w.Opaque(h); w.Uint32(0x3f) })
}

// Lookup asks for one name of a directory.
func Lookup(dir Handle, name string) Call {
	return NFS(nfs3.ProcLookup, func(w *xdr.Writer) { w.Opaque(dir); w.String(name) })
}

// Read asks for n bytes.
func Read(h Handle, off uint64, n int) Call {
	return NFS(nfs3.ProcRead, func(w *xdr.Writer) { w.Opaque(h); w.Uint64(off); w.Uint32(uint32(n)) })
}

// Write sends data, which may stay in the server's memory.
func Write(h Handle, off uint64, data []byte) Call { return write(h, off, data, nfs3.Unstable) }

// WriteSync sends data, which is to be on the disk when the answer comes. Written says
// whether it is.
func WriteSync(h Handle, off uint64, data []byte) Call { return write(h, off, data, nfs3.FileSync) }

func write(h Handle, off uint64, data []byte, how nfs3.Stable) Call {
	return NFS(nfs3.ProcWrite, func(w *xdr.Writer) {
		w.Opaque(h)
		w.Uint64(off)
		w.Uint32(uint32(len(data)))
		w.Uint32(uint32(how))
		w.Opaque(data)
	})
}

// Written reads the answer to a WRITE (RFC 1813 section 3.3.7): how many bytes were taken,
// and whether they are on the disk.
func Written(r *Reply) (n int, how nfs3.Stable, err error) {
	d := xdr.NewReader(r.Results)
	if st := d.Uint32(); !r.Accepted || st != 0 {
		return 0, 0, errStatus
	}
	if d.Bool() { // size and times before
		d.Skip(24)
	}
	skipAttr(&d)
	n, how = int(d.Uint32()), nfs3.Stable(d.Uint32())
	if !d.OK() {
		return 0, 0, fmt.Errorf("an answer of %d bytes that is none", r.Size)
	}
	return n, how, nil
}

// Create makes a file that must not be there, of mode 0644.
func Create(dir Handle, name string) Call {
	return NFS(nfs3.ProcCreate, func(w *xdr.Writer) {
		w.Opaque(dir)
		w.String(name)
		w.Uint32(uint32(nfs3.Guarded))
		w.Bool(true)
		w.Uint32(0o644)
		for range 5 { // uid, gid, size, times: not set
			w.Uint32(0)
		}
	})
}

// Remove removes a name.
func Remove(dir Handle, name string) Call {
	return NFS(nfs3.ProcRemove, func(w *xdr.Writer) { w.Opaque(dir); w.String(name) })
}

// ReadDirPlus lists a part of a directory.
func ReadDirPlus(dir Handle, cookie, verf uint64, dirCount, maxCount uint32) Call {
	return NFS(nfs3.ProcReadDirPlus, func(w *xdr.Writer) {
		w.Opaque(dir)
		w.Uint64(cookie)
		w.Uint64(verf)
		w.Uint32(dirCount)
		w.Uint32(maxCount)
	})
}

// Commit brings a whole file to disk.
func Commit(h Handle) Call {
	return NFS(nfs3.ProcCommit, func(w *xdr.Writer) { w.Opaque(h); w.Uint64(0); w.Uint32(0) })
}

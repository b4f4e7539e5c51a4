package nfsreplay

import (
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/xdr"
)

// entry is what an answer says of one file.
type entry struct {
	name   []byte
	handle []byte // nil: it has none
	cookie uint64
}

// results reads the results of a call that succeeded, behind their status: the
// handles and the cookies. args are those of the call behind its handle. What does
// not fit makes d bad.
func results(proc uint32, args []byte, d *xdr.Reader) []entry {
	switch proc {
	case nfs3.ProcLookup:
		return []entry{{name: firstName(args), handle: d.Opaque(nfs3.MaxHandle)}}
	case nfs3.ProcCreate, nfs3.ProcMkdir, nfs3.ProcSymlink, nfs3.ProcMknod:
		if !d.Bool() {
			return nil
		}
		return []entry{{name: firstName(args), handle: d.Opaque(nfs3.MaxHandle)}}
	case nfs3.ProcReadDir, nfs3.ProcReadDirPlus:
		skipAttr(d)
		d.Uint64()
		var out []entry
		for d.Bool() {
			d.Uint64()
			e := entry{name: d.Opaque(nfs3.MaxName)}
			e.cookie = d.Uint64()
			if proc == nfs3.ProcReadDirPlus {
				if skipAttr(d); d.Bool() {
					e.handle = d.Opaque(nfs3.MaxHandle)
				}
			}
			if string(e.name) == "." || string(e.name) == ".." {
				e.handle = nil
			}
			out = append(out, e)
		}
		return out
	}
	return nil
}

// verifier is that of a listing.
func verifier(d xdr.Reader) uint64 {
	skipAttr(&d)
	return d.Uint64()
}

func firstName(args []byte) []byte {
	d := xdr.NewReader(args)
	return d.Opaque(nfs3.MaxName)
}

// skipAttr passes over a post_op_attr.
func skipAttr(d *xdr.Reader) {
	if d.Bool() {
		d.Skip(84)
	}
}

package nfs3

import (
	"encoding/binary"

	"rubus/nfsexport/xdr"
)

// Entries takes the entries of a listing, in the order of their cookies.
type Entries interface {
	// Add takes an entry, which is valid only while it runs; false: there is no room
	// for it.
	Add(*Entry) bool
	// AddRun is Add for those of a run from the i-th on; it gives how many it took.
	AddRun(r *Run, i int) int
}

// EntryFunc takes entries one by one.
type EntryFunc func(*Entry) bool

// Add implements Entries.
func (f EntryFunc) Add(e *Entry) bool { return f(e) }

// AddRun implements Entries.
func (f EntryFunc) AddRun(r *Run, i int) (n int) {
	var e Entry
	for ; i < r.Len(); i++ {
		if r.Entry(i, &e); !f(&e) {
			break
		}
		n++
	}
	return n
}

// Run is entries of READDIRPLUS as they are sent, one behind the other: a FS that
// remembers entries does so in this form. It may be read by several goroutines at once
// when nobody adds to it.
type Run struct {
	wire []byte
	ends []runEnd
}

// runEnd is where an entry ends.
type runEnd struct {
	wire  uint32 // in the bytes of the run
	names uint32 // as dircount counts
}

const (
	// entryFixed is what an entry takes besides its name: that it follows,
	// fileid, cookie.
	entryFixed = 4 + 8 + 8
	// runFixed is what an entry of a Run takes besides its name and its handle, at most: the
	// name's length and padding, attributes.
	runFixed = entryFixed + 4 + 3 + postSize + 4 + 4
	// RunEntry is the memory of an entry of a Run besides its name, at most.
	RunEntry = runFixed + MaxHandle + 8
)

// nameSize is what an entry counts for dircount (section 3.3.17): fileid, name, cookie.
func nameSize(name string) int { return 8 + xdr.Size(len(name)) + 8 }

// MakeRun makes an empty run with room for entries whose names have so many bytes, and
// each handle as many as handle says.
func MakeRun(entries, names, handle int) Run {
	return Run{
		wire: make([]byte, 0, names+entries*(runFixed+handle)),
		ends: make([]runEnd, 0, entries),
	}
}

// Add appends an entry.
func (r *Run) Add(e *Entry) {
	w := xdr.Writer{Buf: r.wire}
	putEntry(&w, e, true)
	r.wire = w.Buf
	r.end(nameSize(e.Name))
}

// AddOf appends the i-th entry of another run.
func (r *Run) AddOf(s *Run, i int) {
	from, to := s.from(i), s.ends[i]
	r.wire = append(r.wire, s.wire[from.wire:to.wire]...)
	r.end(int(to.names - from.names))
}

// AddFor appends the i-th entry of another run, which has attributes and a handle, as
// another export has it: with its fsid, and its handle, which is as long.
func (r *Run) AddFor(s *Run, i int, fsid uint64, handle []byte) {
	at := len(r.wire)
	r.AddOf(s, i)
	b := r.wire[at:]
	fh := len(b) - xdr.Size(len(handle))
	copy(b[fh+4:], handle)
	binary.BigEndian.PutUint64(b[fh-4-attrSize+fsidAt:], fsid)
}

func (r *Run) end(names int) {
	last := r.from(len(r.ends))
	r.ends = append(r.ends, runEnd{uint32(len(r.wire)), last.names + uint32(names)})
}

// Len is the number of entries.
func (r *Run) Len() int { return len(r.ends) }

// from is where the i-th entry begins.
func (r *Run) from(i int) runEnd {
	if i == 0 {
		return runEnd{}
	}
	return r.ends[i-1]
}

// Entry gives the i-th entry. Its name is a copy, its handle is not.
func (r *Run) Entry(i int, e *Entry) {
	d := xdr.NewReader(r.wire[r.from(i).wire:r.ends[i].wire])
	d.Uint32()
	*e = Entry{FileID: d.Uint64(), Name: string(d.Opaque(MaxName)), Cookie: d.Uint64()}
	if e.Attr.OK = d.Bool(); e.Attr.OK {
		getAttr(d.Fixed(attrSize), &e.Attr.Attr)
	}
	if d.Bool() {
		e.Handle = d.Opaque(MaxHandle)
	}
}

// Handle is the handle of the i-th entry.
func (r *Run) Handle(i int) []byte {
	d := xdr.NewReader(r.wire[r.from(i).wire:r.ends[i].wire])
	d.Skip(4 + 8)
	d.Opaque(MaxName)
	d.Skip(8)
	if d.Bool() {
		d.Skip(attrSize)
	}
	if !d.Bool() {
		return nil
	}
	return d.Opaque(MaxHandle)
}

// putEntry writes an entry of READDIR, or with plus of READDIRPLUS.
func putEntry(w *xdr.Writer, e *Entry, plus bool) {
	w.Uint32(1)
	w.Uint64(e.FileID)
	w.String(e.Name)
	w.Uint64(e.Cookie)
	if plus {
		postAttr(w, &e.Attr)
		postHandle(w, e.Handle)
	}
}

// getAttr reads what putAttr wrote.
func getAttr(b []byte, a *Attr) {
	b = b[:attrSize]
	be := binary.BigEndian
	*a = Attr{
		Type: FileType(be.Uint32(b[0:])), Mode: be.Uint32(b[4:]), Nlink: be.Uint32(b[8:]), UID: be.Uint32(b[12:]), GID: be.Uint32(b[16:]),
		Size: be.Uint64(b[20:]), Used: be.Uint64(b[28:]), Major: be.Uint32(b[36:]), Minor: be.Uint32(b[40:]),
		FSID: be.Uint64(b[fsidAt:]), FileID: be.Uint64(b[52:]),
		Atime: Time{be.Uint32(b[60:]), be.Uint32(b[64:])}, Mtime: Time{be.Uint32(b[68:]), be.Uint32(b[72:])}, Ctime: Time{be.Uint32(b[76:]), be.Uint32(b[80:])},
	}
}

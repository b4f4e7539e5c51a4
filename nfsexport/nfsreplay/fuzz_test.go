package nfsreplay

import (
	"bytes"
	"testing"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/xdr"
)

// FuzzRecorder gives the recorder two packets of each direction, as a capture of another
// may hold: what is recorded can be written and read again.
func FuzzRecorder(f *testing.F) {
	call := func(proc uint32, rest ...byte) []byte {
		var w xdr.Writer
		header(&w, 1, nfs3.Number, nfs3.Version, proc, Cred{})
		w.Opaque([]byte("root"))
		w.Buf = append(w.Buf, rest...)
		w.PutUint32(0, 1<<31|uint32(w.Len()-4))
		return w.Buf
	}
	answer := func(rest ...uint32) []byte {
		var w xdr.Writer
		for _, v := range append([]uint32{0, 1, 1, 0, 0, 0, 0, 0}, rest...) {
			w.Uint32(v)
		}
		w.PutUint32(0, 1<<31|uint32(w.Len()-4))
		return w.Buf
	}
	name := []byte{0, 0, 0, 1, 'a', 0, 0, 0}
	f.Add(call(nfs3.ProcLookup, name...), answer(4, 0x61626364, 0, 0), call(nfs3.ProcGetAttr), answer())
	f.Add(call(nfs3.ProcReadDirPlus, make([]byte, 24)...), answer(0, 0, 0, 1, 0, 7, 1, 0x61000000, 0, 9, 0, 1, 4, 1, 0, 1), call(nfs3.ProcGetAttr), answer())
	f.Add(call(nfs3.ProcWrite, make([]byte, 20)...), answer(0, 0), call(nfs3.ProcRename, name...), answer(0))
	f.Add([]byte{0x80, 0, 0, 0}, []byte{0xff, 0xff, 0xff, 0xff}, []byte{0, 0, 0, 4, 1}, []byte{})
	f.Fuzz(func(t *testing.T, up, down, up2, down2 []byte) {
		c := client{t: t}
		c.packet(true, up)
		c.packet(false, down)
		c.packet(true, up2)
		c.packet(false, down2)
		var r Recorder
		for _, p := range append(c.frames, up, down) {
			if r.Frame(p) != nil {
				return
			}
		}
		rec, err := r.Recording()
		if err != nil {
			return
		}
		var file bytes.Buffer
		if err := rec.Write(&file); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(&file); err != nil {
			t.Error(err)
		}
	})
}

package xdr

import (
	"encoding/binary"
	"slices"
)

// Writer appends values to Buf. It allocates only when Buf must grow.
type Writer struct {
	Buf []byte
}

// Len is the number of bytes written.
func (w *Writer) Len() int { return len(w.Buf) }

// Truncate takes back everything after the first n bytes.
func (w *Writer) Truncate(n int) { w.Buf = w.Buf[:n] }

// Uint32 writes an unsigned integer or an enumeration (RFC 4506 sections 4.2, 4.3).
func (w *Writer) Uint32(v uint32) { w.Buf = binary.BigEndian.AppendUint32(w.Buf, v) }

// Uint64 writes an unsigned hyper (RFC 4506 section 4.5).
func (w *Writer) Uint64(v uint64) { w.Buf = binary.BigEndian.AppendUint64(w.Buf, v) }

// Bool writes a boolean (RFC 4506 section 4.4).
func (w *Writer) Bool(v bool) {
	if v {
		w.Uint32(1)
	} else {
		w.Uint32(0)
	}
}

// Opaque writes opaque data of variable length (RFC 4506 section 4.10).
func (w *Writer) Opaque(v []byte) {
	w.Uint32(uint32(len(v)))
	w.Buf = append(w.Buf, v...)
	w.Pad(len(v))
}

// String writes a string (RFC 4506 section 4.11).
func (w *Writer) String(v string) {
	w.Uint32(uint32(len(v)))
	w.Buf = append(w.Buf, v...)
	w.Pad(len(v))
}

// Pad writes the zero bytes that follow opaque data of n bytes.
func (w *Writer) Pad(n int) {
	switch n & 3 {
	case 1:
		w.Buf = append(w.Buf, 0, 0, 0)
	case 2:
		w.Buf = append(w.Buf, 0, 0)
	case 3:
		w.Buf = append(w.Buf, 0)
	}
}

// Extend makes the message n bytes longer and gives those bytes to be filled.
// They hold whatever the buffer held before.
func (w *Writer) Extend(n int) []byte {
	at := len(w.Buf)
	w.Buf = slices.Grow(w.Buf, n)[:at+n]
	return w.Buf[at : at+n : at+n]
}

// PutUint32 overwrites the four bytes at offset at.
func (w *Writer) PutUint32(at int, v uint32) { binary.BigEndian.PutUint32(w.Buf[at:], v) }

// Size is what opaque data of n bytes takes as XDR: its length word, the bytes
// and the padding.
func Size(n int) int { return 4 + pad(n) }

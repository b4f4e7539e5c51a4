package xdr

import (
	"encoding/binary"
	"unsafe"
)

// Reader takes values off the front of a message. Its error is sticky: after
// the first value that does not fit, every method gives zero values and OK
// says false. The zero Reader is at the end of an empty message. It never
// allocates, and a copy of a Reader is a bookmark.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads b, which must not change while anything read from it is in use.
func NewReader(b []byte) Reader { return Reader{b: b} }

// OK says whether everything read so far was there and well formed.
func (r *Reader) OK() bool { return !r.bad }

// Len is the number of bytes not read yet.
func (r *Reader) Len() int { return len(r.b) }

// Rest gives the bytes not read yet, without reading them.
func (r *Reader) Rest() []byte { return r.b }

// Fail makes the reader bad, for a value that was readable but is not allowed.
func (r *Reader) Fail() { r.b, r.bad = nil, true }

// Uint32 reads an unsigned integer or an enumeration (RFC 4506 sections 4.2, 4.3).
func (r *Reader) Uint32() uint32 {
	if len(r.b) < 4 {
		r.Fail()
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// Uint64 reads an unsigned hyper (RFC 4506 section 4.5).
func (r *Reader) Uint64() uint64 {
	if len(r.b) < 8 {
		r.Fail()
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// Bool reads a boolean; anything but 0 and 1 is bad (RFC 4506 section 4.4).
func (r *Reader) Bool() bool {
	v := r.Uint32()
	if v > 1 {
		r.Fail()
	}
	return v == 1
}

// Fixed reads opaque data of n bytes and its padding (RFC 4506 section 4.9).
// The result is a part of the message. What the padding holds is ignored, as
// other servers do.
func (r *Reader) Fixed(n int) []byte {
	// Compared before rounding up, so that a length near the largest int
	// cannot wrap round.
	if n < 0 || n > len(r.b) || pad(n) > len(r.b) {
		r.Fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[pad(n):]
	return v
}

// Opaque reads opaque data of at most limit bytes (RFC 4506 section 4.10). The
// result is a part of the message.
func (r *Reader) Opaque(limit int) []byte {
	n := r.Uint32()
	if uint64(n) > uint64(limit) {
		r.Fail()
		return nil
	}
	return r.Fixed(int(n))
}

// String is Opaque as a string (RFC 4506 section 4.11). The string is a part of
// the message: it must be copied by whoever keeps it beyond the message.
func (r *Reader) String(limit int) string {
	b := r.Opaque(limit)
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

// Skip passes over n bytes and their padding.
func (r *Reader) Skip(n int) { r.Fixed(n) }

// pad rounds n up to a multiple of the XDR unit, 4 bytes.
func pad(n int) int { return (n + 3) &^ 3 }

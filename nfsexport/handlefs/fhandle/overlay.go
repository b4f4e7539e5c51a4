package fhandle

import "encoding/hex"

// Overlay is the handle type of overlayfs (OVL_FILEID_V1).
const Overlay = 0xf8

// The kernel's overlay handle (fs/overlayfs/overlayfs.h): three bytes to align, then
// version, magic, length, flags, the type of the inner handle, a UUID and the handle.
// The part behind the three bytes is, in hex, the name in the index of an object
// that was copied up. Handles that we have made, or whose MAC is right, are as the kernel
// made them; what is said of others makes no sense, but does no harm.
const (
	fhPad       = 3
	fhLen       = fhPad + 2
	fhFlags     = fhPad + 3
	fhType      = fhPad + 4
	fhUUID      = fhPad + 5
	fhInner     = fhUUID + 16
	fhPathUpper = 1 << 2
)

// Upper says whether k is the handle of what was made in the upper: it is in no layer.
func (k *Key) Upper() bool {
	fh := k.Kernel()
	return len(fh) > fhFlags && fh[fhFlags]&fhPathUpper != 0
}

// Lower says whether k is the handle of what is in a layer: it may have been copied up
// since, see IndexName.
func (k *Key) Lower() bool {
	fh := k.Kernel()
	return len(fh) > fhFlags && fh[fhFlags]&fhPathUpper == 0
}

// SameDisk says whether what k and j stand for lies on one file system below the overlay.
func (k *Key) SameDisk(j *Key) bool {
	a, b := k.Kernel(), j.Kernel()
	return len(a) > fhInner && len(b) > fhInner && string(a[fhUUID:fhInner]) == string(b[fhUUID:fhInner])
}

// MaxIndexName is how long the name in an index can be, with a NUL.
const MaxIndexName = 2*MaxKernel + 1

// IndexName gives the name that k has in the overlay's index if it was copied up, which is
// in buf, with a NUL behind it; it is empty for what is no overlay's handle.
func (k *Key) IndexName(buf *[MaxIndexName]byte) []byte {
	n := 0
	if fh := k.Kernel(); len(fh) > fhLen {
		n = hex.Encode(buf[:], fh[fhPad:fhPad+min(int(fh[fhLen]), len(fh)-fhPad)])
	}
	buf[n] = 0
	return buf[:n]
}

// Inner makes in the handle that the file system below the overlay has for the object;
// false: there is none.
func (k *Key) Inner(in *Kernel) bool {
	fh := k.Kernel()
	if len(fh) <= fhInner {
		return false
	}
	end := fhPad + int(fh[fhLen])
	if end <= fhInner || end > len(fh) {
		return false
	}
	in.typ, in.bytes = int32(fh[fhType]), uint32(copy(in.data[:], fh[fhInner:end]))
	return true
}

// SetLower makes h the overlay's handle of what has the handle in in a layer, by that of
// another object of the overlay: they differ in the inner handle only, but that the upper's
// are marked. It is false when there is none.
func (h *Kernel) SetLower(in *Kernel, like *Key) bool {
	n := fhInner + int(in.bytes)
	if like.kernelLen() < fhInner || n > MaxKernel || n%4 != 0 || in.typ <= 0 || in.typ > 255 {
		return false
	}
	h.typ, h.bytes = int32(like[1]), uint32(n)
	copy(h.data[:], like.Kernel()[:fhInner])
	copy(h.data[fhInner:], in.data[:in.bytes])
	h.data[fhLen], h.data[fhType] = byte(n-fhPad), byte(in.typ)
	h.data[fhFlags] &^= fhPathUpper
	return true
}

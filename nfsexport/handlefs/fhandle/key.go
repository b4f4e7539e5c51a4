package fhandle

import (
	"encoding/binary"

	"rubus/nfsexport"
	"rubus/nfsexport/nfs3"
)

// The wire handle, 64 bytes at most (RFC 1813 section 2.4):
//
//	0   version, 1
//	1   the kernel's handle type
//	2   n, the length of the kernel's handle
//	3   the export id, big-endian
//	11  the kernel's handle
//	11+n  the MAC of everything before it: as much as fits, 16 bytes at most
//
// An overlay handle has 32 bytes on ext4 and 36 on xfs and tmpfs, which leaves
// room for the whole MAC; the longest has 44 (btrfs), which leaves 9.
const (
	version = 1
	header  = 11
	maxMAC  = 16
)

// MaxKernel is how many bytes of the kernel's handles have room in ours.
const MaxKernel = 44

// Key is a wire handle without its MAC, padded with zeros: what open files are ordered
// by, so that the MAC is only compared in constant time. The zero Key is that of nothing.
type Key [header + MaxKernel]byte

func (k *Key) kernelLen() int { return int(k[2]) }
func (k *Key) len() int       { return header + k.kernelLen() }
func (k *Key) macLen() int    { return min(maxMAC, nfs3.MaxHandle-k.len()) }

// Export is whose handle it is. Whether there is such an export it does not say.
func (k *Key) Export() nfsexport.ID { return nfsexport.ID(binary.BigEndian.Uint64(k[3:])) }

// SetExport makes k a handle of this export.
func (k *Key) SetExport(id nfsexport.ID) { binary.BigEndian.PutUint64(k[3:], uint64(id)) }

// Kernel gives the bytes of the kernel's handle, which are k's own.
func (k *Key) Kernel() []byte { return k[header:k.len()] }

// Set fills everything but the export. It is false, and k as it was, when the kernel's
// handle does not fit.
func (k *Key) Set(h *Kernel) bool {
	if h.typ < 0 || h.typ > 255 || h.bytes > MaxKernel {
		return false
	}
	k[0], k[1], k[2] = version, byte(h.typ), byte(h.bytes)
	clear(k[header+copy(k[header:], h.data[:h.bytes]):])
	return true
}

// Parse splits a wire handle into its key and its MAC. It checks the form only: see
// Sealer.Verify. What it gives is a part of fh.
func Parse(fh []byte, k *Key) (mac []byte, ok bool) {
	if len(fh) < header || len(fh) > nfs3.MaxHandle || fh[0] != version || fh[2] > MaxKernel {
		return nil, false
	}
	n := header + int(fh[2])
	if len(fh) < n {
		return nil, false
	}
	clear(k[copy(k[:], fh[:n]):])
	if len(fh) != n+k.macLen() {
		return nil, false
	}
	return fh[n:], true
}

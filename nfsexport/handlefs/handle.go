package handlefs

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"sync"

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
	handleVersion = 1
	handleHeader  = 11
	maxKernel     = 44
	maxMAC        = 16
)

// key is a wire handle without its MAC, padded with zeros: what the cache of
// open files is ordered by, so that the MAC is only compared in constant time.
type key [handleHeader + maxKernel]byte

func (k *key) kernelLen() int            { return int(k[2]) }
func (k *key) len() int                  { return handleHeader + k.kernelLen() }
func (k *key) export() nfsexport.ID      { return nfsexport.ID(binary.BigEndian.Uint64(k[3:])) }
func (k *key) kernelType() int32         { return int32(k[1]) }
func (k *key) kernel() []byte            { return k[handleHeader:k.len()] }
func (k *key) macLen() int               { return min(maxMAC, nfs3.MaxHandle-k.len()) }
func (k *key) setExport(id nfsexport.ID) { binary.BigEndian.PutUint64(k[3:], uint64(id)) }

// setKernel fills everything but the export. It is false when the kernel's
// handle does not fit.
func (k *key) setKernel(typ int32, b []byte) bool {
	if typ < 0 || typ > 255 || len(b) > maxKernel {
		return false
	}
	k[0], k[1], k[2] = handleVersion, byte(typ), byte(len(b))
	clear(k[handleHeader+copy(k[handleHeader:], b):])
	return true
}

// parseHandle splits a wire handle into its key and its MAC. It checks the form
// only.
func parseHandle(fh []byte, k *key) (mac []byte, ok bool) {
	if len(fh) < handleHeader || len(fh) > nfs3.MaxHandle || fh[0] != handleVersion || fh[2] > maxKernel {
		return nil, false
	}
	n := handleHeader + int(fh[2])
	if len(fh) < n {
		return nil, false
	}
	clear(k[copy(k[:], fh[:n]):])
	if len(fh) != n+k.macLen() {
		return nil, false
	}
	return fh[n:], true
}

// sealer makes and checks MACs: HMAC-SHA256, truncated. It does not allocate
// once its pool is warm.
type sealer struct{ pool sync.Pool }

type sealing struct {
	mac hash.Hash
	in  key
	sum [sha256.Size]byte
}

func (s *sealer) init(secret [32]byte) {
	s.pool.New = func() any { return &sealing{mac: hmac.New(sha256.New, secret[:])} }
}

func (s *sealer) sum(k *key) *sealing {
	w := s.pool.Get().(*sealing)
	w.in = *k
	w.mac.Reset()
	w.mac.Write(w.in[:k.len()])
	w.mac.Sum(w.sum[:0])
	return w
}

// seal gives the wire handle of k and its length.
func (s *sealer) seal(k *key, out *[nfs3.MaxHandle]byte) uint8 {
	w := s.sum(k)
	n := copy(out[:], k[:k.len()])
	n += copy(out[n:], w.sum[:k.macLen()])
	s.pool.Put(w)
	return uint8(n)
}

// verify says whether mac is k's, in constant time.
func (s *sealer) verify(k *key, mac []byte) bool {
	w := s.sum(k)
	ok := subtle.ConstantTimeCompare(w.sum[:k.macLen()], mac) == 1
	s.pool.Put(w)
	return ok
}

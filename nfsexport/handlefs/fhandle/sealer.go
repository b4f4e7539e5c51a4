package fhandle

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"sync"

	"rubus/nfsexport/nfs3"
)

// Sealer makes and checks MACs: HMAC-SHA256, truncated. It does not allocate
// once its pool is warm. Many goroutines may use it at once.
type Sealer struct{ pool sync.Pool }

type sealing struct {
	mac hash.Hash
	in  Key
	sum [sha256.Size]byte
}

// NewSealer makes the sealer of a secret. Clients hold handles for as long as a secret
// stays the same, and not longer.
func NewSealer(secret [32]byte) *Sealer {
	s := new(Sealer)
	s.pool.New = func() any { return &sealing{mac: hmac.New(sha256.New, secret[:])} }
	return s
}

func (s *Sealer) sum(k *Key) *sealing {
	w := s.pool.Get().(*sealing)
	w.in = *k
	w.mac.Reset()
	w.mac.Write(w.in[:k.len()])
	w.mac.Sum(w.sum[:0])
	return w
}

// Seal puts the wire handle of k into out, and gives its length.
func (s *Sealer) Seal(k *Key, out *[nfs3.MaxHandle]byte) uint8 {
	w := s.sum(k)
	n := copy(out[:], k[:k.len()])
	n += copy(out[n:], w.sum[:k.macLen()])
	s.pool.Put(w)
	return uint8(n)
}

// Verify says whether mac is k's, in constant time.
func (s *Sealer) Verify(k *Key, mac []byte) bool {
	w := s.sum(k)
	ok := subtle.ConstantTimeCompare(w.sum[:k.macLen()], mac) == 1
	s.pool.Put(w)
	return ok
}

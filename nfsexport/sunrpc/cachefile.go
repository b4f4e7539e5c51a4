package sunrpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The file of a Cache: a header of one page, then slots. Integers are in the
// machine's order or little-endian: the file is for this machine only.
//
//	 0  state: free, intent (begun) or done
//	 4  checksum of 8..56
//	 8  time of the begin
//	16  address, 32 xid, program, version, procedure, length and sum of the arguments
//	56  length of the reply, 60 checksum of the reply
//	64  the reply
//
// The state is written last: a process that dies between two writes leaves
// what the state said before.
const (
	cacheMagic   = "rubusDRC\x01\x00\x00\x00"
	cacheHeader  = 4096
	slotSize     = 512
	slotSum      = 4
	slotKey      = 8
	slotReplyLen = 56
	slotReplySum = 60
	slotReply    = 64
	maxReply     = slotSize - slotReply
)

const (
	slotFree   uint32 = 0
	slotIntent uint32 = 1
	slotDone   uint32 = 2
)

// cacheFile is the mapped file, or plain memory.
type cacheFile struct {
	f   *os.File // nil: plain memory
	mem []byte
}

// openCacheFile maps the file at path with room for n slots. It always gives a
// cacheFile that works; err says what is lost.
func openCacheFile(path string, n int) (*cacheFile, error) {
	size := cacheHeader + n*slotSize
	if path == "" {
		return &cacheFile{mem: make([]byte, size)}, nil
	}
	cf, err := mapCacheFile(path, size)
	if cf == nil {
		return &cacheFile{mem: make([]byte, size)},
			fmt.Errorf("opening duplicate request cache %q, going without a file: %w", path, err)
	}
	if err != nil {
		return cf, fmt.Errorf("opening duplicate request cache %q, starting empty: %w", path, err)
	}
	return cf, nil
}

// mapCacheFile gives nil when there is no file to be had, and an error beside a
// good file when it had to begin anew.
func mapCacheFile(path string, size int) (*cacheFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil {
		// Two processes would take each other's slots.
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	header := fmt.Sprintf("%s%08x", cacheMagic, size)
	found := make([]byte, len(header))
	_, _ = f.ReadAt(found, 0)
	var lost error
	if info.Size() != int64(size) || string(found) != header {
		if info.Size() != 0 {
			lost = errors.New("it is damaged, or of another version")
		}
		err = errors.Join(f.Truncate(0), unix.Fallocate(int(f.Fd()), 0, 0, int64(size)))
		if err == nil {
			_, err = f.WriteAt([]byte(header), 0)
		}
	} else {
		// All of it must have room on the disk: a write into a mapped hole that
		// finds none would kill the process.
		err = unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &cacheFile{f, mem}, lost
}

func (cf *cacheFile) close() error {
	if cf.f == nil {
		return nil
	}
	return errors.Join(unix.Munmap(cf.mem), cf.f.Close())
}

func (cf *cacheFile) slot(i int) []byte {
	at := cacheHeader + i*slotSize
	return cf.mem[at : at+slotSize : at+slotSize]
}

// state is the first word of a slot. Slots are aligned, and a word is written
// in one piece.
func (cf *cacheFile) state(i int) *uint32 { return (*uint32)(unsafe.Pointer(&cf.slot(i)[0])) }

// key reads the key of a slot; ok is false when there is none, or it is damaged.
func (cf *cacheFile) key(i int) (k cacheKey, state uint32, ok bool) {
	state = atomic.LoadUint32(cf.state(i))
	b := cf.slot(i)
	if state != slotIntent && state != slotDone ||
		crc32.Checksum(b[slotKey:slotReplyLen], castagnoli()) != binary.LittleEndian.Uint32(b[slotSum:]) {
		return k, state, false
	}
	k.began = int64(binary.LittleEndian.Uint64(b[slotKey:]))
	copy(k.addr[:], b[16:])
	for n, p := range k.words() {
		*p = binary.LittleEndian.Uint32(b[32+4*n:])
	}
	return k, state, true
}

// words are the fields of a key that are kept as words, in order.
func (k *cacheKey) words() [6]*uint32 {
	return [...]*uint32{&k.xid, &k.program, &k.version, &k.procedure, &k.argsLen, &k.argsSum}
}

// intend writes a key into a slot: its call has begun.
func (cf *cacheFile) intend(i int, k *cacheKey) {
	cf.free(i)
	b := cf.slot(i)
	binary.LittleEndian.PutUint64(b[slotKey:], uint64(k.began))
	copy(b[16:32], k.addr[:])
	for n, p := range k.words() {
		binary.LittleEndian.PutUint32(b[32+4*n:], *p)
	}
	binary.LittleEndian.PutUint32(b[slotSum:], crc32.Checksum(b[slotKey:slotReplyLen], castagnoli()))
	atomic.StoreUint32(cf.state(i), slotIntent)
}

// done writes the reply of a call that began; false: it is too long.
func (cf *cacheFile) done(i int, reply []byte) bool {
	if len(reply) > maxReply {
		return false
	}
	b := cf.slot(i)
	// A slot done before whose reply was damaged may come here again.
	atomic.StoreUint32(cf.state(i), slotIntent)
	n := copy(b[slotReply:], reply)
	binary.LittleEndian.PutUint32(b[slotReplyLen:], uint32(n))
	binary.LittleEndian.PutUint32(b[slotReplySum:], crc32.Checksum(reply, castagnoli()))
	atomic.StoreUint32(cf.state(i), slotDone)
	return true
}

// reply gives the reply of a slot that is done; false: it is damaged.
func (cf *cacheFile) reply(i int) ([]byte, bool) {
	b := cf.slot(i)
	n := binary.LittleEndian.Uint32(b[slotReplyLen:])
	if n > maxReply {
		return nil, false
	}
	reply := b[slotReply : slotReply+n]
	return reply, crc32.Checksum(reply, castagnoli()) == binary.LittleEndian.Uint32(b[slotReplySum:])
}

// free empties a slot.
func (cf *cacheFile) free(i int) { atomic.StoreUint32(cf.state(i), slotFree) }

package tftp

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

const (
	headerSize = 4
	// chunkSize is about how much of a file is read at once where that may take
	// time: a goroutine is woken for each. Such a transfer has that much in memory.
	chunkSize = 128 << 10
	// readySize is that of a file that is in memory already: it costs a system call,
	// and what a hundred boards read at once should stay in the processor's cache.
	readySize = 16 << 10
)

// burst is what a client is sent in lock-step before more is read of its file:
// one packet out at a time.
//
// A packet's header is written over the end of the block before it, which the
// client has confirmed by then: so nothing is copied between the read of a file
// and the send of a packet.
type burst struct {
	buf   []byte // room for a header, then bytes of the file
	from  int    // what of buf was not out yet
	block int    // bytes in a block
	last  bool   // the file ends here, with a block that is not full
	ends  bool   // that block is out

	index  int64  // of the packet that is out, from 1
	wrap   uint16 // see blockNumber
	number uint16 // of the packet that is out
	packet []byte // it; nil: nothing is out
}

// single is a burst of one packet that is confirmed as block 0.
func single(packet []byte) burst { return burst{packet: packet} }

// next takes the next packet, and is false when there is none in this burst.
func (b *burst) next() bool {
	n := min(b.block, len(b.buf)-b.from)
	if n < b.block && !b.last || b.block == 0 {
		b.packet = nil
		return false
	}
	if n < b.block {
		b.last, b.ends = false, true // this is the one, and it may be empty
	}
	b.packet = b.buf[b.from-headerSize : b.from+n]
	b.from += n
	b.index++
	b.number = blockNumber(b.index, b.wrap)
	binary.BigEndian.PutUint16(b.packet, opData)
	binary.BigEndian.PutUint16(b.packet[2:], b.number)
	return true
}

// blockNumber is the number of a block, which follow each other from 1 on. After
// 65535 comes wrap: 0, or 1.
func blockNumber(index int64, wrap uint16) uint16 {
	if wrap == 0 || index == 0 {
		return uint16(index)
	}
	return uint16((index-1)%math.MaxUint16 + 1)
}

// reader makes bursts of a file. It has one buffer: a burst ends with the next.
type reader struct {
	file   File
	ready  ReadyFile // nil: file is none
	block  int
	left   int64 // bytes that were not read yet
	got    int   // bytes in buf that are in no burst yet
	blocks int64 // in bursts
	wrap   uint16
	ended  bool // the last block is in a burst
	buf    []byte
}

func newReader(file File, block int, wrap uint16) *reader {
	r := &reader{file: file, block: block, left: file.Size(), wrap: wrap}
	r.ready, _ = file.(ReadyFile)
	return r
}

// next reads whole blocks, or what is left. The burst's first packet is taken.
func (r *reader) next() (burst, error) {
	n := r.room(chunkSize)
	got, err := io.ReadFull(r.file, r.buf[headerSize+r.got:headerSize+n])
	r.left -= int64(got)
	if r.got += got; r.got < n {
		return burst{}, fmt.Errorf("reading file with %d bytes to go: %w", r.left, err)
	}
	return r.burst(), nil
}

// now is next of what is in memory, and false where that is too little.
func (r *reader) now() (burst, bool) {
	if r.ready == nil || r.ended {
		return burst{}, false
	}
	n := r.room(readySize)
	got := r.ready.ReadNow(r.buf[headerSize+r.got : headerSize+n])
	r.left -= int64(got)
	if r.got += got; r.got < n {
		return burst{}, false
	}
	return r.burst(), true
}

// room makes room for about size bytes, and says for how many.
func (r *reader) room(size int) int {
	n := int(min(int64(max(1, size/r.block)*r.block), int64(r.got)+r.left))
	if need := headerSize + n; cap(r.buf) < need {
		r.buf = append(make([]byte, 0, need), r.buf[:min(len(r.buf), headerSize+r.got)]...)
	}
	r.buf = r.buf[:headerSize+n]
	return n
}

// burst is of all that was read.
func (r *reader) burst() burst {
	b := burst{buf: r.buf, from: headerSize, block: r.block, last: r.left == 0, index: r.blocks, wrap: r.wrap}
	r.blocks += int64(r.got / r.block)
	r.got, r.ended = 0, b.last
	b.next()
	return b
}

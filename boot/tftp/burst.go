package tftp

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

const (
	headerSize = 4
	// chunkSize is about how much of a file is read at once. Each transfer has
	// that much in memory; more saves nothing that can be measured, and what a
	// hundred boards read at once should stay in the processor's cache.
	chunkSize = 128 << 10
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
	file   io.Reader
	block  int
	left   int64 // bytes that were not read yet
	blocks int64 // that were read
	wrap   uint16
	buf    []byte
}

func newReader(file File, block int, wrap uint16) *reader {
	return &reader{file: file, block: block, left: file.Size(), wrap: wrap}
}

// next reads whole blocks, or what is left. The burst's first packet is taken.
func (r *reader) next() (burst, error) {
	n := int(min(int64(max(1, chunkSize/r.block)*r.block), r.left))
	if need := headerSize + n; cap(r.buf) < need {
		r.buf = make([]byte, need)
	}
	r.buf = r.buf[:headerSize+n]
	got, err := io.ReadFull(r.file, r.buf[headerSize:])
	r.left -= int64(got)
	if got < n {
		return burst{}, fmt.Errorf("reading file with %d bytes to go: %w", r.left, err)
	}
	b := burst{buf: r.buf, from: headerSize, block: r.block, last: r.left == 0, index: r.blocks, wrap: r.wrap}
	r.blocks += int64(n / r.block)
	b.next()
	return b, nil
}

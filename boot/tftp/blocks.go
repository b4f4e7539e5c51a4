package tftp

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	headerSize = 4
	// chunkSize is about how much of a file is read at once. Blocks are small,
	// and the file system is in the way of each read; more saves nothing that
	// can be measured, and each transfer has a chunk in memory.
	chunkSize = 16 << 10
)

// blocks cuts a file into the packets of a transfer.
//
// A packet's header is written over the end of the block before it, which the
// client has confirmed by then: so nothing is copied between the read of a file
// and the send of a packet.
type blocks struct {
	file io.Reader
	size int   // of a block
	left int64 // bytes of the file that were not read yet

	chunk    []byte // room for a header, then bytes of the file
	from, to int    // what of chunk was not sent yet
}

func newBlocks(file File, size int) *blocks {
	return &blocks{file: file, size: size, left: file.Size()}
}

// next makes the next packet. It is valid until the call after. Its data is
// shorter than a block when it is the file's last.
func (b *blocks) next(number uint16) ([]byte, error) {
	if b.from == b.to {
		if err := b.read(); err != nil {
			return nil, err
		}
	}
	n := min(b.size, b.to-b.from)
	packet := b.chunk[b.from-headerSize : b.from+n]
	b.from += n
	binary.BigEndian.PutUint16(packet, opData)
	binary.BigEndian.PutUint16(packet[2:], number)
	return packet, nil
}

// read fills the chunk with whole blocks, or with what is left.
func (b *blocks) read() error {
	n := int(min(int64(max(1, chunkSize/b.size)*b.size), b.left))
	if need := headerSize + n; cap(b.chunk) < need {
		b.chunk = make([]byte, need)
	}
	b.chunk = b.chunk[:headerSize+n]
	b.from, b.to = headerSize, headerSize+n
	got, err := io.ReadFull(b.file, b.chunk[headerSize:])
	b.left -= int64(got)
	if got < n {
		return fmt.Errorf("reading file with %d bytes to go: %w", b.left, err)
	}
	return nil
}

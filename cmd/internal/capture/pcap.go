package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// The pcap format (draft-ietf-opsawg-pcap): a header of 24 bytes, and before each
// packet one of 16. Times are in nanoseconds or, by another magic number,
// microseconds.
const (
	magicMicro   = 0xa1b2c3d4
	magicNano    = 0xa1b23c4d
	linkEthernet = 1
	// MaxFrame is more than any frame has, offloaded ones included.
	MaxFrame = 256 << 10
)

// Writer writes a file.
type Writer struct{ w *bufio.Writer }

// NewWriter writes the header. Flush has to be called at the end.
func NewWriter(w io.Writer) *Writer {
	b := bufio.NewWriterSize(w, 1<<20)
	h := make([]byte, 24)
	le := binary.LittleEndian
	le.PutUint32(h, magicNano)
	le.PutUint16(h[4:], 2) // version 2.4
	le.PutUint16(h[6:], 4)
	le.PutUint32(h[16:], MaxFrame)
	le.PutUint32(h[20:], linkEthernet)
	_, _ = b.Write(h) // an error stays, up to Flush
	return &Writer{b}
}

// Frame adds an Ethernet frame.
func (w *Writer) Frame(at time.Time, frame []byte) error {
	var h [16]byte
	le := binary.LittleEndian
	le.PutUint32(h[:], uint32(at.Unix()))
	le.PutUint32(h[4:], uint32(at.Nanosecond()))
	le.PutUint32(h[8:], uint32(len(frame)))
	le.PutUint32(h[12:], uint32(len(frame)))
	if _, err := w.w.Write(h[:]); err != nil {
		return err
	}
	_, err := w.w.Write(frame)
	return err
}

// Flush writes what is held back.
func (w *Writer) Flush() error { return w.w.Flush() }

// errCut says that a file ends within a packet.
var errCut = errors.New("the capture ends in the middle of a packet")

// Read gives each frame of a file to f, in order. The frame is f's until it returns.
// A frame that was not captured whole is an error.
func Read(r io.Reader, f func(at time.Time, frame []byte) error) error {
	b := bufio.NewReaderSize(r, 1<<20)
	h := make([]byte, 24)
	if _, err := io.ReadFull(b, h); err != nil {
		return fmt.Errorf("reading a capture: %w", err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	unit := time.Nanosecond
	switch {
	case order.Uint32(h) == magicNano:
	case order.Uint32(h) == magicMicro:
		unit = time.Microsecond
	default:
		order = binary.BigEndian
		if order.Uint32(h) == magicMicro {
			unit = time.Microsecond
		} else if order.Uint32(h) != magicNano {
			return errors.New("this is no capture in the pcap format")
		}
	}
	if link := order.Uint32(h[20:]); link != linkEthernet {
		return fmt.Errorf("a capture of link type %d: want Ethernet (1)", link)
	}
	frame := make([]byte, MaxFrame)
	for {
		if _, err := io.ReadFull(b, h[:16]); err == io.EOF {
			return nil
		} else if err != nil {
			return errCut
		}
		size, whole := order.Uint32(h[8:]), order.Uint32(h[12:])
		if size > MaxFrame || size != whole {
			return fmt.Errorf("a packet of %d bytes of which %d were captured", whole, size)
		}
		if _, err := io.ReadFull(b, frame[:size]); err != nil {
			return errCut
		}
		at := time.Unix(int64(order.Uint32(h)), int64(order.Uint32(h[4:]))*int64(unit))
		if err := f(at, frame[:size]); err != nil {
			return err
		}
	}
}

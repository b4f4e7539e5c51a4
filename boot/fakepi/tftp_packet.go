package fakepi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// TFTP opcodes (RFC 1350, RFC 2347).
const (
	opRRQ   = 1
	opDATA  = 3
	opACK   = 4
	opERROR = 5
	opOACK  = 6
)

// earlyTerminate is the ERROR 0 by which firmware breaks off a probe.
const earlyTerminate = "Early terminate"

var errTFTPPacket = errors.New("malformed TFTP packet")

// reply is a server's packet.
type reply struct {
	op    uint16
	block uint16 // DATA
	data  []byte // DATA; into the packet
	code  uint16 // ERROR
	text  string // ERROR
	// tsize is -1 without that option, blksize 0.
	tsize   int64 // OACK
	blksize int   // OACK
}

// rrq is a read request, options in the order firmware sends them.
func rrq(name string, s tftpStyle) []byte {
	b := binary.BigEndian.AppendUint16(nil, opRRQ)
	b = append(append(append(b, name...), 0), "octet\x00"...)
	if s.tsize {
		b = append(b, "tsize\x000\x00"...)
	}
	if s.blksize != 0 {
		b = append(append(append(b, "blksize\x00"...), strconv.Itoa(s.blksize)...), 0)
	}
	return b
}

func ack(block uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0, opACK}, block)
}

func tftpError(code uint16, text string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, opERROR}, code)
	return append(append(b, text...), 0)
}

// parseReply reads a server's packet.
func parseReply(b []byte) (reply, error) {
	if len(b) < 4 {
		return reply{}, errTFTPPacket
	}
	r := reply{op: binary.BigEndian.Uint16(b), tsize: -1}
	switch r.op {
	case opDATA:
		r.block, r.data = binary.BigEndian.Uint16(b[2:]), b[4:]
	case opERROR:
		r.code = binary.BigEndian.Uint16(b[2:])
		text, _, _ := bytes.Cut(b[4:], []byte{0})
		r.text = string(text)
	case opOACK:
		return r, r.options(b[2:])
	default:
		return reply{}, fmt.Errorf("%w: opcode %d", errTFTPPacket, r.op)
	}
	return r, nil
}

func (r *reply) options(b []byte) error {
	for len(b) > 0 {
		name, rest, ok := bytes.Cut(b, []byte{0})
		value, rest, ok2 := bytes.Cut(rest, []byte{0})
		if !ok || !ok2 {
			return fmt.Errorf("%w: option without an end", errTFTPPacket)
		}
		b = rest
		n, err := strconv.ParseUint(string(value), 10, 40)
		switch string(bytes.ToLower(name)) {
		case "tsize":
			r.tsize = int64(n)
		case "blksize":
			// RFC 2348: 8 to 65464.
			if err == nil && (n < 8 || n > 65464) {
				err = strconv.ErrRange
			}
			r.blksize = int(n)
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: option %s=%q", errTFTPPacket, name, value)
		}
	}
	return nil
}

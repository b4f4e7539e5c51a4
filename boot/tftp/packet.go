package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Opcodes (RFC 1350 section 5, RFC 2347).
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opAck   = 4
	opError = 5
	opOAck  = 6
)

// Error codes (RFC 1350, appendix).
const (
	codeUndefined = 0
	codeNotFound  = 1
	codeAccess    = 2
	codeIllegal   = 4
)

const (
	// maxRequest is the longest request taken. RFC 2347 ends them at 512; a
	// little more does no harm.
	maxRequest = 1024
	maxOptions = 16
	// maxReply is as much as is read of a client's packet: an ACK has 4 bytes, and
	// of an ERROR the first words will do.
	maxReply = 512
	// blockDefault is the size of a block without a blksize option; smaller
	// ones (RFC 2348 goes down to 8) are not given.
	blockDefault = 512
	// blockOverhead is what IP, UDP and TFTP put before a block.
	blockOverhead = 20 + 8 + 4
)

// request is a read or write request as it came.
type request struct {
	op         int
	path, mode string
	options    []option
}

type option struct{ name, value string }

var errMalformed = errors.New("malformed request")

// parseRequest reads a request: path, mode, then pairs of options, each text
// ended by a zero byte. Other packets are errors too: on the server's port
// nothing but requests makes sense.
func parseRequest(b []byte) (request, error) {
	if len(b) < 2 || len(b) > maxRequest {
		return request{}, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	r := request{op: int(binary.BigEndian.Uint16(b))}
	if r.op != opRead && r.op != opWrite {
		return request{}, fmt.Errorf("%w: opcode %d", errMalformed, r.op)
	}
	if b[len(b)-1] != 0 {
		return request{}, fmt.Errorf("%w: no zero byte at the end", errMalformed)
	}
	texts := strings.Split(string(b[2:len(b)-1]), "\x00")
	if len(texts) < 2 || texts[0] == "" || texts[1] == "" {
		return request{}, fmt.Errorf("%w: path or mode is missing", errMalformed)
	}
	r.path, r.mode = texts[0], strings.ToLower(texts[1])
	for pair := texts[2:]; len(pair) >= 2 && len(r.options) < maxOptions; pair = pair[2:] {
		r.options = append(r.options, option{strings.ToLower(pair[0]), pair[1]})
	}
	return r, nil
}

// negotiate answers a request's options for a file of the given size, in the
// order they were asked; those it leaves out don't apply. The block size is
// at most maxBlock, which keeps blocks in one packet of the network: the
// firmware of a Pi puts no fragments together.
func negotiate(asked []option, size int64, maxBlock int) (answer []option, block int) {
	block = blockDefault
	seen := make(map[string]bool)
	for _, o := range asked {
		if seen[o.name] {
			continue // RFC 2347: an option may be specified only once
		}
		seen[o.name] = true
		switch o.name {
		case "tsize":
			// Answered for an empty file as well: firmware from 2020 on takes a
			// file without a size for a missing one.
			answer = append(answer, option{"tsize", strconv.FormatInt(size, 10)})
		case "blksize":
			n, err := strconv.Atoi(o.value)
			if err != nil || n < blockDefault {
				continue
			}
			block = max(blockDefault, min(n, maxBlock))
			answer = append(answer, option{"blksize", strconv.Itoa(block)})
		}
	}
	return answer, block
}

func packOAck(options []option) []byte {
	b := []byte{0, opOAck}
	for _, o := range options {
		b = append(append(b, o.name...), 0)
		b = append(append(b, o.value...), 0)
	}
	return b
}

func packError(code byte, message string) []byte {
	b := []byte{0, opError, 0, code}
	return append(append(b, message...), 0)
}

// reply is what a client sends during a transfer.
type reply struct {
	op      int
	block   uint16 // of an ACK
	code    uint16 // of an ERROR
	message string
}

// parseReply reads an ACK or an ERROR; ok is false for all else.
func parseReply(b []byte) (r reply, ok bool) {
	if len(b) < 4 {
		return reply{}, false
	}
	r.op = int(binary.BigEndian.Uint16(b))
	number := binary.BigEndian.Uint16(b[2:])
	switch r.op {
	case opAck:
		r.block = number
		return r, true
	case opError:
		r.code = number
		message, _, _ := bytes.Cut(b[4:], []byte{0})
		r.message = string(message[:min(len(message), 128)])
		return r, true
	}
	return reply{}, false
}

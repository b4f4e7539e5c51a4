package nfsload

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// A responder is what a server is measured against: it takes records and answers
// each with one of a fixed size, as the sizes come first on the connection, and
// looks at nothing.

// shapeSize is the length of what is sent first on a connection to a responder:
// how large its answers are, with their marks, and how much of that comes from
// its file, in a word each.
const shapeSize = 8

// maxAnswer is the most that it sends or takes in one record.
const maxAnswer = 2 << 20

// DialResponder connects to a responder that will answer with records of reply
// bytes (with their marks), of which file bytes come from its file by sendfile(2).
func DialResponder(addr string, reply, file int) (*Conn, error) {
	c, err := Dial(addr)
	if err != nil {
		return nil, err
	}
	shape := binary.BigEndian.AppendUint32(nil, uint32(reply))
	if _, err := c.nc.Write(binary.BigEndian.AppendUint32(shape, uint32(file))); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Respond answers on the connections of l until it is closed.
func Respond(l net.Listener, file *os.File) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			_ = respond(nc.(*net.TCPConn), file)
		}()
	}
}

func respond(nc *net.TCPConn, file *os.File) error {
	in := bufio.NewReaderSize(nc, 64<<10)
	var shape [shapeSize]byte
	if _, err := io.ReadFull(in, shape[:]); err != nil {
		return err
	}
	size, fromFile := int(binary.BigEndian.Uint32(shape[:])), int(binary.BigEndian.Uint32(shape[4:]))
	if size > maxAnswer || size < replyHeader || fromFile > size-replyHeader {
		return errors.New("no such answer")
	}
	answer := make([]byte, size)
	binary.BigEndian.PutUint32(answer, uint32(size-markSize)|lastMark)
	binary.BigEndian.PutUint32(answer[8:], 1) // REPLY, accepted, success
	send := func(b []byte) error { _, err := nc.Write(b); return err }
	if fromFile > 0 {
		raw, err := nc.SyscallConn()
		if err != nil {
			return err
		}
		send = func(b []byte) error { return sendFile(raw.Write, b[:size-fromFile], int(file.Fd()), fromFile) }
	}
	var out, body []byte
	var head [markSize + 4]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head[:])&^lastMark) - 4
		if n > len(body) {
			if n > maxAnswer {
				return errors.New("a record too long")
			}
			body = make([]byte, n)
		}
		if _, err := io.ReadFull(in, body[:n]); err != nil {
			return err
		}
		copy(answer[markSize:], head[markSize:])
		switch {
		case fromFile > 0 || len(answer) > 64<<10:
			if err := send(answer); err != nil {
				return err
			}
		default:
			out = append(out, answer...)
			if in.Buffered() < markSize || len(out) > 48<<10 {
				if err := send(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
	}
}

// sendFile sends head and the first n bytes of a file.
func sendFile(write func(func(uintptr) bool) error, head []byte, file, n int) error {
	var off int64
	var err error
	werr := write(func(fd uintptr) bool {
		for len(head) > 0 {
			var m int
			if m, err = unix.SendmsgN(int(fd), head, nil, nil, unix.MSG_MORE); err != nil {
				return err != unix.EAGAIN
			}
			head = head[m:]
		}
		for off < int64(n) {
			if _, err = unix.Sendfile(int(fd), file, &off, n-int(off)); err != nil {
				return err != unix.EAGAIN
			}
		}
		return true
	})
	return errors.Join(werr, err)
}

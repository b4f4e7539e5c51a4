package tftp

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// link is the packet connection that pin/tftp serves one transfer on. The
// library opens its own socket for a transfer on a connection of the system's,
// from an address it can't be told, and answers all that it reads. On a link
// we open the socket, with the address the board asked, and the library sees
// nothing but the acknowledgement it waits for:
//
//   - the request is one of ours, with the block size already settled, and the
//     option acknowledgement it makes is replaced by ours, which has a tsize
//     for empty files too;
//   - of what the board sends, a block's first acknowledgement or an error gets
//     through, and nothing after it until the next block goes out;
//   - giving up is decided here and told to the library as an error of the
//     board's, so that it ends a transfer only on a packet it was given.
//
// The last two are needed, not only tidy: in its single-port mode the library
// panics on a packet of more than 516 bytes, and on one that comes in while it
// ends a transfer.
type link struct {
	sock    *net.UDPConn // connected to the board
	peer    *net.UDPAddr
	oack    []byte // what goes out for the library's option acknowledgement
	retries int
	moved   *atomic.Bool // set once the board confirmed something

	sent   chan struct{} // a block went out for the first time
	over   chan struct{} // closed when the library has ended the transfer
	finish sync.Once

	mu       sync.Mutex
	request  []byte // what the library reads first; nil once it has
	op       int    // of the last packet that went out
	block    uint16 // of that packet; 0 for the option acknowledgement
	tries    int    // how often it was sent again
	resent   int    // all packets sent again
	acked    int64  // blocks of data the board has confirmed
	quit     *reply // the board's ERROR
	gone     error  // the board's port is closed
	expired  bool   // the block was sent often enough
	stopped  bool   // nobody wants the transfer any more
	bodyFail func() error
}

// maxReply is the longest packet the library has room for.
const maxReply = 4 + blockDefault

// ReadFrom implements net.PacketConn: it blocks until there is a packet that
// the library must see.
func (l *link) ReadFrom(b []byte) (int, net.Addr, error) {
	if request := l.takeRequest(); request != nil {
		return copy(b, request), l.peer, nil
	}
	select {
	case <-l.sent:
		l.await()
	case <-l.over:
		return 0, nil, os.ErrDeadlineExceeded
	}
	buf := make([]byte, maxReply+1)
	for {
		n, err := l.sock.Read(buf)
		select {
		case <-l.over:
			return 0, nil, os.ErrDeadlineExceeded
		default:
		}
		if l.givesUp(err) {
			return copy(b, packError(codeUndefined, "over")), l.peer, nil
		}
		if err == nil && l.wants(buf[:n]) {
			return copy(b, buf[:min(n, maxReply)]), l.peer, nil
		}
	}
}

func (l *link) takeRequest() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	request := l.request
	l.request = nil
	return request
}

// await begins to wait for the answer to a new block.
func (l *link) await() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped && !l.expired && l.gone == nil {
		_ = l.sock.SetReadDeadline(time.Time{})
	}
}

// givesUp says whether the transfer is to end, given how a read ended.
func (l *link) givesUp(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, net.ErrClosed)) {
		l.gone = err
	}
	return l.stopped || l.expired || l.gone != nil
}

// wants says whether a packet of the board goes to the library.
func (l *link) wants(packet []byte) bool {
	r, ok := parseReply(packet)
	if !ok {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.op == opError:
		l.quit = &r
		return true
	case r.block == l.block:
		if l.op == opData {
			l.acked++
		}
		l.moved.Store(true)
		return true
	}
	return false
}

// WriteTo implements net.PacketConn: packets of the library go to the board.
// It never fails: what the network loses is sent again in time.
func (l *link) WriteTo(b []byte, _ net.Addr) (int, error) {
	packet := b
	op, block := int(binary.BigEndian.Uint16(b)), uint16(0)
	switch op {
	case opOAck:
		packet = l.oack
	case opData:
		block = binary.BigEndian.Uint16(b[2:])
	default:
		// The library reports all failures to the board, the board's own
		// included, in its words. One alone is of use there.
		if l.bodyFail() != nil {
			_, _ = l.sock.Write(packError(codeUndefined, "Read error"))
		}
		return len(b), nil
	}
	again, expired := l.goesOut(op, block)
	if expired {
		return len(b), nil
	}
	_, err := l.sock.Write(packet)
	if !again {
		l.sent <- struct{}{} // never blocks: the last one was taken before its ACK
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		l.mu.Lock()
		l.gone = err
		l.wake()
		l.mu.Unlock()
	}
	return len(b), nil
}

// goesOut notes a packet that the library sends, and whether it is one more
// time the last one, or one time too many.
func (l *link) goesOut(op int, block uint16) (again, expired bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	again = l.op == op && l.block == block
	l.op, l.block = op, block
	switch {
	case !again:
		l.tries, l.expired = 0, false
	case l.tries >= l.retries:
		l.expired = true
		l.wake()
	default:
		l.tries++
		l.resent++
	}
	return again, l.expired
}

// wake ends a read of the socket. l.mu is held, so that await can't undo it.
func (l *link) wake() { _ = l.sock.SetReadDeadline(time.Unix(1, 0)) }

// stop ends the transfer soon.
func (l *link) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.wake()
}

// SetReadDeadline implements net.PacketConn. The library calls it only to end
// its loop once the transfer is over.
func (l *link) SetReadDeadline(time.Time) error {
	l.finish.Do(func() { close(l.over) })
	l.stop()
	return nil
}

// SetDeadline implements net.PacketConn.
func (l *link) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (l *link) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements net.PacketConn.
func (l *link) LocalAddr() net.Addr { return l.sock.LocalAddr() }

// Close implements net.PacketConn; whoever made the socket closes it.
func (l *link) Close() error { return nil }

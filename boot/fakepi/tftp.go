package fakepi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"rubus/boot/fakepi/nic"
)

const (
	tftpPort = 69
	// maxMemory bounds one file, whatever the server says of its size.
	maxMemory = 512 << 20
	// maxResends bounds the RRQs for one file.
	maxResends = 10
)

// Reasons why a file was not read.
var (
	ErrMissing = errors.New("not found")
	// ErrTooLarge says that the file has more blocks than the firmware can count.
	ErrTooLarge = errors.New("file too large for this firmware")
	ErrSilence  = errors.New("the server fell silent")
	ErrTooSlow  = errors.New("the file took too long")
)

// missing is a server's ERROR, which firmware takes for "no such file"
// whatever its code and text.
type missing struct {
	code uint16
	text string
}

func (m *missing) Error() string        { return fmt.Sprintf("TFTP error %d: %s", m.code, m.text) }
func (m *missing) Is(target error) bool { return target == ErrMissing }

// transfer is one request for one file.
type transfer struct {
	stack *nic.Stack
	style tftpStyle
	// patience stretches or shortens the firmware's times.
	patience func(time.Duration) time.Duration
	server   netip.Addr
	port     uint16
	name     string
	probe    bool
	// discard lets the data go: got counts it.
	discard bool

	peer    netip.AddrPort // the server's port for this transfer, once known
	started time.Time
	heard   time.Time // last packet from the server
	retries int
	size    int64 // -1: the server did not say
	block   int
	want    uint16
	data    []byte
	got     int64
	packets int64 // blocks and option acknowledgements that were taken
}

// run asks for the file. It returns when the file is whole, or for a probe when
// its size is known, or with the reason why not.
func (t *transfer) run(ctx context.Context) error {
	t.started, t.heard = time.Now(), time.Now()
	t.size, t.block, t.want = -1, 512, 1
	request := rrq(t.name, t.style)
	to := netip.AddrPortFrom(t.server, tftpPort)
	if err := t.stack.Send(ctx, t.port, to, request); err != nil {
		return err
	}
	for {
		d, err := t.stack.Receive(ctx, t.deadline())
		switch {
		case errors.Is(err, nic.ErrTimeout):
			if err := t.expired(); err != nil {
				return err
			}
			if !t.peer.IsValid() {
				t.retries++
				if err := t.stack.Send(ctx, t.port, to, request); err != nil {
					return err
				}
			}
			continue
		case err != nil:
			return err
		case !t.ours(d):
			continue
		}
		r, err := parseReply(d.Payload)
		if err != nil {
			continue
		}
		t.peer, t.heard = d.Src, time.Now()
		done, err := t.take(ctx, r)
		if done || err != nil {
			return err
		}
	}
}

// ours says whether a datagram belongs to this transfer: the server's first
// answer fixes the port that the rest must come from (RFC 1350, section 4).
func (t *transfer) ours(d nic.Datagram) bool {
	if d.Dst.Port() != t.port || d.Src.Addr() != t.server {
		return false
	}
	return !t.peer.IsValid() || d.Src == t.peer
}

// deadline is when the next packet has to be there, or the RRQ is repeated.
func (t *transfer) deadline() time.Time {
	d := t.heard.Add(time.Minute)
	earlier := func(e time.Time) {
		if e.Before(d) {
			d = e
		}
	}
	if t.style.quiet > 0 {
		earlier(t.heard.Add(t.patience(t.style.quiet)))
	}
	if t.style.whole > 0 {
		earlier(t.started.Add(t.patience(t.style.whole)))
	}
	if !t.peer.IsValid() && t.style.resend > 0 && t.retries < maxResends {
		earlier(t.started.Add(t.patience(t.style.resend) * time.Duration(t.retries+1)))
	}
	return d
}

// expired says why the transfer ends at a deadline; nil: repeat the RRQ.
func (t *transfer) expired() error {
	now := time.Now()
	if t.style.whole > 0 && !now.Before(t.started.Add(t.patience(t.style.whole))) {
		if !t.peer.IsValid() {
			return ErrSilence
		}
		return fmt.Errorf("%w: %d bytes in %s", ErrTooSlow, t.got, t.style.whole)
	}
	quiet := time.Minute
	if t.style.quiet > 0 {
		quiet = t.patience(t.style.quiet)
	}
	if !now.Before(t.heard.Add(quiet)) {
		return ErrSilence
	}
	return nil
}

// take deals with one packet of the server's.
func (t *transfer) take(ctx context.Context, r reply) (done bool, err error) {
	switch r.op {
	case opERROR:
		return true, &missing{r.code, r.text}
	case opOACK:
		return t.oack(ctx, r)
	case opDATA:
		return t.dataBlock(ctx, r)
	}
	return false, nil
}

func (t *transfer) oack(ctx context.Context, r reply) (bool, error) {
	if t.want != 1 {
		return false, nil
	}
	if r.blksize > t.style.blockSize() || (r.blksize != 0 && t.style.blksize == 0) {
		return true, t.abort(ctx, fmt.Errorf("the server chose blocks of %d bytes, %d were asked for", r.blksize, t.style.blockSize()))
	}
	if r.blksize != 0 {
		t.block = r.blksize
	}
	t.size = r.tsize
	switch limit := t.limit(); {
	case t.style.tsize && t.size < 0:
		// start.elf since April 2020 takes such a file for missing.
		return true, t.abort(ctx, fmt.Errorf("%w: the server did not say its size (tsize)", ErrMissing))
	case t.probe:
		return true, t.abort(ctx, nil)
	case limit > 0 && t.size > limit:
		return true, t.abort(ctx, fmt.Errorf("%w: %d bytes, and 65,535 blocks of %d are all it counts", ErrTooLarge, t.size, t.block))
	case t.size > maxMemory:
		return true, t.abort(ctx, fmt.Errorf("%w: %d bytes", ErrTooLarge, t.size))
	}
	t.packets++
	if t.data == nil && !t.discard {
		t.data = make([]byte, 0, max(t.size, 0))
	}
	return false, t.send(ctx, ack(0))
}

func (t *transfer) dataBlock(ctx context.Context, r reply) (bool, error) {
	if t.style.tsize && t.size < 0 {
		return true, t.abort(ctx, fmt.Errorf("%w: the server knows no options (no OACK)", ErrMissing))
	}
	if r.block != t.want {
		// An old block again: its ACK was lost. Anything else is passed over.
		if r.block != t.want-1 {
			return false, nil
		}
		t.retries++
		if !t.style.reacks {
			return false, nil
		}
		return false, t.send(ctx, ack(r.block))
	}
	switch limit := t.limit(); {
	case len(r.data) > t.block:
		return true, t.abort(ctx, fmt.Errorf("the server sent %d bytes in a block of %d", len(r.data), t.block))
	case limit > 0 && t.got+int64(len(r.data)) > limit, t.got+int64(len(r.data)) > maxMemory:
		return true, t.abort(ctx, fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit))
	}
	if !t.discard {
		t.data = append(t.data, r.data...)
	}
	t.got += int64(len(r.data))
	t.packets++
	t.want++
	if err := t.send(ctx, ack(r.block)); err != nil {
		return true, err
	}
	if len(r.data) < t.block {
		if t.size >= 0 && t.size != t.got {
			return true, fmt.Errorf("the server announced %d bytes and sent %d", t.size, t.got)
		}
		return true, nil
	}
	return false, nil
}

// limit is the largest file with the block size agreed on; 0: any.
func (t *transfer) limit() int64 {
	if t.style.rollover {
		return 0
	}
	s := t.style
	s.blksize = t.block
	return s.maxFile()
}

// abort breaks the transfer off as firmware does and passes err on.
func (t *transfer) abort(ctx context.Context, err error) error {
	return errors.Join(err, t.send(ctx, tftpError(0, earlyTerminate)))
}

func (t *transfer) send(ctx context.Context, packet []byte) error {
	return t.stack.Send(ctx, t.port, t.peer, packet)
}

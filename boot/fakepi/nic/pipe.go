package nic

import (
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// queue holds as many frames for a card as a switch would, and loses those beyond.
type queue struct {
	frames   chan []byte
	done     chan struct{}
	once     *sync.Once
	deadline time.Time
}

func newQueue() queue {
	return queue{frames: make(chan []byte, 256), done: make(chan struct{}), once: &sync.Once{}}
}

// put adds a frame, which is the queue's from then on.
func (q *queue) put(frame []byte) {
	select {
	case q.frames <- frame:
	default:
	}
}

// ReadFrame implements Link.
func (q *queue) ReadFrame(b []byte) (int, error) {
	var expired <-chan time.Time
	if !q.deadline.IsZero() {
		t := time.NewTimer(time.Until(q.deadline))
		defer t.Stop()
		expired = t.C
	}
	select {
	case f := <-q.frames:
		return copy(b, f), nil
	case <-expired:
		return 0, os.ErrDeadlineExceeded
	case <-q.done:
		return 0, io.EOF
	}
}

// SetReadDeadline implements Link.
func (q *queue) SetReadDeadline(t time.Time) error {
	q.deadline = t
	return nil
}

func (q *queue) close() { q.once.Do(func() { close(q.done) }) }

// Pipe is a cable in memory between two cards, for tests. When one end is closed, both are.
func Pipe() (a, b Link) {
	x, y := newQueue(), newQueue()
	y.done, y.once = x.done, x.once
	return &pipeEnd{queue: x, to: y}, &pipeEnd{queue: y, to: x}
}

type pipeEnd struct {
	queue
	to queue
}

// WriteFrame implements Link.
func (p *pipeEnd) WriteFrame(b []byte) error {
	select {
	case <-p.done:
		return io.ErrClosedPipe
	default:
	}
	p.to.put(slices.Clone(b))
	return nil
}

// Checksums implements Link.
func (p *pipeEnd) Checksums() bool { return true }

// Close implements Link.
func (p *pipeEnd) Close() error {
	p.close()
	return nil
}

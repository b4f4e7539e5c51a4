package nic

import (
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// Pipe is a cable in memory between two cards, for tests. It holds as many
// frames as a switch would and loses those beyond.
func Pipe() (a, b Link) {
	const queue = 256
	ab, ba := make(chan []byte, queue), make(chan []byte, queue)
	done := make(chan struct{})
	once := &sync.Once{}
	return &pipeEnd{in: ba, out: ab, done: done, once: once}, &pipeEnd{in: ab, out: ba, done: done, once: once}
}

type pipeEnd struct {
	in       <-chan []byte
	out      chan<- []byte
	done     chan struct{}
	once     *sync.Once
	deadline time.Time
}

func (p *pipeEnd) ReadFrame(b []byte) (int, error) {
	var expired <-chan time.Time
	if !p.deadline.IsZero() {
		t := time.NewTimer(time.Until(p.deadline))
		defer t.Stop()
		expired = t.C
	}
	select {
	case f := <-p.in:
		return copy(b, f), nil
	case <-expired:
		return 0, os.ErrDeadlineExceeded
	case <-p.done:
		return 0, io.EOF
	}
}

func (p *pipeEnd) WriteFrame(b []byte) error {
	select {
	case p.out <- slices.Clone(b):
	case <-p.done:
		return io.ErrClosedPipe
	default:
	}
	return nil
}

func (p *pipeEnd) SetReadDeadline(t time.Time) error {
	p.deadline = t
	return nil
}

func (p *pipeEnd) Checksums() bool { return true }

func (p *pipeEnd) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

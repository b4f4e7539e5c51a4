package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// maxHeld bounds what a console holds of output that nobody waited for.
const maxHeld = 1 << 20

// errConsole says that the other side closed the console.
var errConsole = errors.New("the console was closed")

// console is a serial line. One goroutine of its own reads it until it closes.
type console struct {
	line io.ReadWriteCloser
	// log gets everything; observe gets every whole line, without its end.
	log     io.Writer
	observe func(string)

	mu   sync.Mutex
	held []byte
	tail []byte // the last of the output, for messages
	part []byte // the line that is not whole yet
	tee  io.Writer
	err  error
	// more is closed, and made anew, when there is something new.
	more chan struct{}
	// ended is closed when the line has ended and all of it was read.
	ended chan struct{}
}

func newConsole(line io.ReadWriteCloser, log io.Writer, observe func(string)) *console {
	c := &console{line: line, log: log, observe: observe, more: make(chan struct{}), ended: make(chan struct{})}
	go c.read()
	return c
}

func (c *console) read() {
	defer close(c.ended)
	b := make([]byte, 4096)
	for {
		n, err := c.line.Read(b)
		c.take(b[:n], err)
		if err != nil {
			return
		}
	}
}

func (c *console) take(b []byte, err error) {
	if c.log != nil && len(b) > 0 {
		// A log that cannot be written must not stop the board.
		_, _ = c.log.Write(b)
	}
	c.mu.Lock()
	tee := c.tee
	c.held = keep(append(c.held, b...), maxHeld)
	c.tail = keep(append(c.tail, b...), 2048)
	c.part = append(c.part, b...)
	var lines []string
	for {
		line, rest, ok := bytes.Cut(c.part, []byte("\n"))
		if !ok {
			break
		}
		lines, c.part = append(lines, strings.TrimRight(string(line), "\r")), rest
	}
	c.part = keep(c.part, 4096)
	if err != nil && c.err == nil {
		c.err = errConsole
	}
	close(c.more)
	c.more = make(chan struct{})
	c.mu.Unlock()
	if tee != nil {
		_, _ = tee.Write(b)
	}
	if c.observe != nil {
		for _, l := range lines {
			c.observe(l)
		}
	}
}

// keep is the last n bytes of b at most.
func keep(b []byte, n int) []byte {
	if len(b) > n {
		return append([]byte(nil), b[len(b)-n:]...)
	}
	return b
}

// consume hands what is held to f, which says how much of it is used up and
// whether that was what it waited for. It blocks until then, until the console
// closes, or until ctx is done.
func (c *console) consume(ctx context.Context, f func([]byte) (used int, done bool)) error {
	for {
		c.mu.Lock()
		used, done := f(c.held)
		c.held = c.held[used:]
		more, err := c.more, c.err
		c.mu.Unlock()
		if done {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waitFor waits for one of the texts and says which came.
func (c *console) waitFor(ctx context.Context, texts ...string) (found string, err error) {
	err = c.consume(ctx, func(b []byte) (int, bool) {
		at := -1
		for _, t := range texts {
			if i := bytes.Index(b, []byte(t)); i >= 0 && (at < 0 || i < at) {
				at, found = i, t
			}
		}
		if at < 0 {
			// What may still become one of the texts stays.
			return 0, false
		}
		return at + len(found), true
	})
	return found, err
}

// send types text.
func (c *console) send(text string) error {
	if _, err := io.WriteString(c.line, text); err != nil {
		return fmt.Errorf("typing on the console: %w", err)
	}
	return nil
}

// lastLines is the end of the output, for messages.
func (c *console) lastLines(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(printable(string(c.tail))), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// setTee sends the output from now on to w as well; nil: no more.
func (c *console) setTee(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tee = w
}

// printable leaves out what would move a terminal's cursor about.
func printable(s string) string {
	s = strings.ReplaceAll(s, "\r", "")
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}

package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ulikunitz/xz"
)

// stage is a decompressor.
type stage struct {
	io.Reader
	// interrupt ends a Read that is waiting; close gives up what it holds when
	// nobody reads any more. Either may be nil.
	interrupt, close func()
}

// newXZ decompresses with the program xz, which is several times as fast as
// what there is in Go; without it, program "", with that.
func newXZ(ctx context.Context, program string, in io.Reader) (stage, error) {
	if program == "" {
		r, err := xz.NewReader(in)
		return stage{Reader: r}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &xzProcess{cmd: exec.CommandContext(ctx, program, "-dc", "-T0", "--memlimit-decompress=1GiB")}
	p.cmd.Env = append(os.Environ(), "LC_ALL=C")
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err == nil {
		p.out, err = p.cmd.StdoutPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		cancel()
		return stage{}, fmt.Errorf("starting %q: %w", program, err)
	}
	p.wait = sync.OnceValue(p.cmd.Wait)
	// It ends with the input or the program, whichever hears of it later: a pipe
	// that stays silent is waited for by nobody else.
	go func() {
		defer stdin.Close()
		// When the program ends before its input, it says why.
		_, _ = io.Copy(stdin, inputError{in, &p.input})
	}()
	return stage{Reader: p, interrupt: cancel, close: func() { _ = p.wait() }}, nil
}

// xzProcess reads the output of xz, and its exit code as an error.
type xzProcess struct {
	cmd    *exec.Cmd
	out    io.Reader
	stderr bytes.Buffer // complete after wait
	input  atomic.Pointer[error]
	wait   func() error
}

// Read implements io.Reader.
func (p *xzProcess) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if err == nil || n > 0 {
		return n, nil
	}
	werr := p.wait()
	if failed := p.input.Load(); failed != nil {
		return 0, *failed
	}
	if werr == nil {
		return 0, err
	}
	said := strings.TrimPrefix(strings.TrimSpace(p.stderr.String()), "xz: (stdin): ")
	switch {
	case strings.Contains(said, "Unexpected end of input"):
		return 0, io.ErrUnexpectedEOF
	case said != "":
		return 0, errors.New(said)
	}
	return 0, fmt.Errorf("xz: %w", werr)
}

// inputError notes the error of a reader.
type inputError struct {
	io.Reader
	at *atomic.Pointer[error]
}

// Read implements io.Reader.
func (e inputError) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if err != nil && err != io.EOF {
		e.at.Store(&err)
	}
	return n, err
}

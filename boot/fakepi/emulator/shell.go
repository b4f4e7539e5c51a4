package emulator

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Prompts that are looked for.
const (
	loginPrompt    = "login: "
	passwordPrompt = "Password: "
	rootPrompt     = "# "
)

// ErrPassword says that root cannot log in without a password.
var ErrPassword = errors.New("the guest's root user has a password: commands can be run only in an image whose root logs in without one")

// shell is a root shell on the console.
type shell struct{ c *console }

// login logs in as root at a login prompt that has been seen.
func login(ctx context.Context, c *console) (*shell, error) {
	if err := c.send("root\r"); err != nil {
		return nil, err
	}
	prompt, err := c.waitFor(ctx, passwordPrompt, rootPrompt, "Login incorrect")
	if err != nil {
		return nil, fmt.Errorf("logging in as root: %w", err)
	}
	if prompt != rootPrompt {
		return nil, ErrPassword
	}
	// No echo and no line ends of the terminal's own; a plain shell, since an
	// interactive one talks to the terminal; nothing more of the kernel's or of
	// systemd's on the console (its SIGRTMIN+21, systemd(1)).
	// The marker is split so that the echo of this line is not taken for it.
	mark := marker()
	s := &shell{c}
	setup := fmt.Sprintf("exec sh -c 'stty -echo -onlcr; dmesg -n 1; env kill -55 1; printf \"%%s%%s\\n\" READY %s; PS1= PS2= exec sh'\r", mark)
	if err := c.send(setup); err != nil {
		return nil, err
	}
	if _, err := c.waitFor(ctx, "READY"+mark+"\n", "READY"+mark+"\r\n"); err != nil {
		return nil, fmt.Errorf("waiting for a shell: %w", err)
	}
	return s, nil
}

// marker is text that nothing else prints.
func marker() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // Never fails (crypto/rand).
	return fmt.Sprintf("%x", b)
}

// run runs a command with sh and copies its output, both streams, to out as it
// comes. It returns the command's exit status.
func (s *shell) run(ctx context.Context, command string, out io.Writer) (status int, err error) {
	mark := marker()
	// Pieces, because a terminal takes no line longer than 4,096 bytes.
	text := base64.StdEncoding.EncodeToString([]byte(command))
	script := "c=\r"
	for len(text) > 0 {
		n := min(len(text), 1000)
		script += "c=${c}" + text[:n] + "\r"
		text = text[n:]
	}
	script += fmt.Sprintf("printf '%%s%%s\\n' BEGIN %s; sh -c \"$(printf %%s $c | base64 -d)\" </dev/null 2>&1; printf '\\n%%s%%s %%d\\n' END %s $?\r", mark, mark)
	if err := s.c.send(script); err != nil {
		return 0, err
	}
	if _, err := s.c.waitFor(ctx, "BEGIN"+mark+"\n"); err != nil {
		return 0, fmt.Errorf("starting a command in the guest: %w", err)
	}
	if err := s.output(ctx, []byte("\nEND"+mark+" "), out); err != nil {
		return 0, fmt.Errorf("running a command in the guest: %w", err)
	}
	err = s.c.consume(ctx, func(b []byte) (int, bool) {
		line, _, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return 0, false
		}
		status, err = strconv.Atoi(string(bytes.TrimSpace(line)))
		return len(line) + 1, true
	})
	return status, err
}

// output copies up to the end marker, which it takes away.
func (s *shell) output(ctx context.Context, end []byte, out io.Writer) error {
	// The output is written outside of consume, which holds the console.
	for done := false; !done; {
		var piece []byte
		err := s.c.consume(ctx, func(b []byte) (int, bool) {
			if i := bytes.Index(b, end); i >= 0 {
				piece, done = bytes.Clone(b[:i]), true
				return i + len(end), true
			}
			// The last bytes may be the marker's first.
			n := max(0, len(b)-len(end)+1)
			piece = bytes.Clone(b[:n])
			return n, n > 0
		})
		if err != nil {
			return err
		}
		if _, err := out.Write(piece); err != nil {
			return fmt.Errorf("writing the output: %w", err)
		}
	}
	return nil
}

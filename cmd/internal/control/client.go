package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"rubus/config/device"
)

// maxAnswer bounds what is read of an answer, in bytes: some 100,000 boards.
const maxAnswer = 64 << 20

// Client talks to the daemon. Its methods block until the daemon has answered
// or ctx ends; their errors are *Error, with KindNotRunning when there is no
// daemon.
type Client struct {
	socket string
	http   http.Client
}

var _ Daemon = (*Client)(nil)

// NewClient is a client of the daemon that listens on socket. It connects when
// it is first used.
func NewClient(socket string) *Client {
	c := &Client{socket: socket}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	return c
}

// Status implements Daemon.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, http.MethodGet, "status", nil, &s)
}

// Boards implements Daemon.
func (c *Client) Boards(ctx context.Context) (b []Board, err error) {
	return b, c.do(ctx, http.MethodGet, "boards", nil, &b)
}

// Board implements Daemon.
func (c *Client) Board(ctx context.Context, serial device.Serial) (b Board, err error) {
	return b, c.do(ctx, http.MethodGet, "boards/"+serial.String(), nil, &b)
}

// Leases implements Daemon.
func (c *Client) Leases(ctx context.Context) (l []Lease, err error) {
	return l, c.do(ctx, http.MethodGet, "leases", nil, &l)
}

// Stop implements Daemon.
func (c *Client) Stop(ctx context.Context, serial device.Serial) error {
	return c.do(ctx, http.MethodPost, "boards/"+serial.String()+"/stop", nil, nil)
}

// ResetPlan implements Daemon.
func (c *Client) ResetPlan(ctx context.Context, serial device.Serial) (p ResetPlan, err error) {
	return p, c.do(ctx, http.MethodGet, "boards/"+serial.String()+"/reset", nil, &p)
}

// Reset implements Daemon.
func (c *Client) Reset(ctx context.Context, serial device.Serial, o ResetOptions, tell func(Progress)) error {
	return c.job(ctx, "boards/"+serial.String()+"/reset", o, tell, nil)
}

// Reload implements Daemon.
func (c *Client) Reload(ctx context.Context, yes bool) (r Reloaded, err error) {
	return r, c.do(ctx, http.MethodPost, "reload", map[string]bool{"yes": yes}, &r)
}

// Did tells the daemon of a change that the caller made itself, for its log: a
// verb such as "image rm", and what it was done to.
func (c *Client) Did(ctx context.Context, verb string, what ...string) error {
	return c.do(ctx, http.MethodPost, "did", deed{verb, what}, nil)
}

// send asks the daemon; the caller closes the body of the answer.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("asking the daemon: %w", err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://rubus/v1/"+path, in)
	if err != nil {
		return nil, fmt.Errorf("asking the daemon: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	return resp, nil
}

func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(data).Decode(answer); err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return nil
}

// refused reads the error that the daemon answers with.
func refused(resp *http.Response) error {
	e := &Error{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(e); err != nil || e.Message == "" {
		return Errorf(KindInternal, "the daemon answered %s", resp.Status).WithHint("is it of another version? see \"rubus version\" and \"rubus status\"")
	}
	return e
}

// explain says why the daemon cannot be reached.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return Errorf(KindNotRunning, "the daemon is not running: nothing listens on %q", c.socket).
			WithHint("start it with \"systemctl start rubus\" or \"rubus serve\"")
	case errors.Is(err, fs.ErrPermission):
		return Errorf(KindRefused, "%q may not be used by you", c.socket).
			WithHint("become root, or join the group of the socket: \"usermod -aG rubus USER\" and log in again")
	}
	return fmt.Errorf("asking the daemon: %w", err)
}

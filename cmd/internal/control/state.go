package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"rubus/config/device"
	"rubus/images/imageref"
)

// States is what the control socket offers of boards' writes. tell, which may be
// nil, is called as long work goes on.
type States interface {
	// Snapshots lists what is kept of a board, the oldest first.
	Snapshots(ctx context.Context, serial device.Serial) ([]Snapshot, error)
	// Snapshot keeps what a board wrote, as it is now, for a time; 0: until it is removed.
	Snapshot(ctx context.Context, serial device.Serial, note string, keep time.Duration, tell func(Progress)) (Snapshot, error)
	// Restore makes a snapshot the board's root from its next boot on. It is refused
	// while the board is up or may be.
	Restore(ctx context.Context, serial device.Serial, n int, tell func(Progress)) error
	RemoveSnapshot(ctx context.Context, serial device.Serial, n int) error
	// Undo takes a board's last rebase back, at once or when its next boot begins.
	Undo(ctx context.Context, serial device.Serial, tell func(Progress)) (Move, error)
	// Replace gives what a board has to another. Both must be down.
	Replace(ctx context.Context, old, now device.Serial) error
}

// Snapshot is a kept state of a board's writes.
type Snapshot struct {
	N     int          `json:"n"`
	Made  time.Time    `json:"made"`
	Note  string       `json:"note,omitempty"`
	Image imageref.Ref `json:"image"`
	Bytes int64        `json:"bytes"`
	Files int64        `json:"files"`
	// Expires is when it is removed; zero: never.
	Expires time.Time `json:"expires,omitzero"`
}

// Move is the last rebase of a board.
type Move struct {
	// State is pending, trial, good, moved, back, failed, undoing or undone.
	State string       `json:"state"`
	Since time.Time    `json:"since"`
	Why   string       `json:"why,omitempty"`
	From  imageref.Ref `json:"from"`
	To    imageref.Ref `json:"to"`
	Batch int          `json:"batch,omitempty"`
	// Reports says that the new version reports its boots, Failures how many of them failed.
	Reports  bool `json:"reports"`
	Failures int  `json:"failures,omitempty"`
	// Overdue is when a boot on trial was under way for longer than one may be.
	Overdue time.Time `json:"overdue,omitzero"`
	// Snapshot is what was set aside: what the board had before, or, of a move that was
	// taken back, what it wrote since.
	Snapshot int `json:"snapshot,omitempty"`
}

// Progress is how far long work is; Total is 0 while nobody knows.
type Progress struct {
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total,omitempty"`
	Files int64 `json:"files"`
}

// line is one line of the answer to long work: the last one has Answer or Error.
type line struct {
	Progress *Progress       `json:"progress,omitempty"`
	Answer   json.RawMessage `json:"answer,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// stateRoutes adds the verbs of States.
func (s *server) stateRoutes(m *http.ServeMux) {
	m.HandleFunc("GET /v1/boards/{serial}/snapshots", s.read(s.board(func(ctx context.Context, serial device.Serial) (any, error) {
		return s.d.Snapshots(ctx, serial)
	})))
	m.HandleFunc("POST /v1/boards/{serial}/snapshot", s.job("snapshot", func(ctx context.Context, serial device.Serial, b jobBody, tell func(Progress)) (any, error) {
		return s.d.Snapshot(ctx, serial, b.Note, b.Keep, tell)
	}))
	m.HandleFunc("POST /v1/boards/{serial}/restore", s.job("restore", func(ctx context.Context, serial device.Serial, b jobBody, tell func(Progress)) (any, error) {
		return struct{}{}, s.d.Restore(ctx, serial, b.N, tell)
	}))
	m.HandleFunc("POST /v1/boards/{serial}/undo-rebase", s.job("undo rebase", func(ctx context.Context, serial device.Serial, _ jobBody, tell func(Progress)) (any, error) {
		return s.d.Undo(ctx, serial, tell)
	}))
	m.HandleFunc("POST /v1/boards/{serial}/replace", s.change("replace", s.replace))
	m.HandleFunc("POST /v1/boards/{serial}/remove-snapshot", s.job("remove snapshot", func(ctx context.Context, serial device.Serial, b jobBody, _ func(Progress)) (any, error) {
		return struct{}{}, s.d.RemoveSnapshot(ctx, serial, b.N)
	}))
}

// replace is the verb about two boards.
func (s *server) replace(ctx context.Context, r *http.Request) (any, error) {
	var b struct {
		By device.Serial `json:"by"`
	}
	if err := readBody(r, &b); err != nil {
		return nil, err
	}
	return s.board(func(ctx context.Context, old device.Serial) (any, error) {
		if b.By.IsZero() {
			return nil, Errorf(KindInvalid, "a board to replace %s by is missing", old)
		}
		return struct{}{}, s.d.Replace(ctx, old, b.By)
	})(ctx, r)
}

// jobBody is what long work may be told.
type jobBody struct {
	N    int    `json:"n,omitempty"`
	Note string `json:"note,omitempty"`
	// Keep is in nanoseconds.
	Keep time.Duration `json:"keep_ns,omitempty"`
}

// job is a handler of long work on one board, which is logged as a change and answers
// with lines of JSON, how far it is and then the answer.
func (s *server) job(name string, do func(context.Context, device.Serial, jobBody, func(Progress)) (any, error)) http.HandlerFunc {
	return s.long(name, func(ctx context.Context, r *http.Request, tell func(Progress)) (any, error) {
		var b jobBody
		if err := readBody(r, &b); err != nil {
			return nil, err
		}
		return s.board(func(ctx context.Context, serial device.Serial) (any, error) {
			return do(ctx, serial, b, tell)
		})(ctx, r)
	})
}

// long is a handler of long work, as job is.
func (s *server) long(name string, do func(context.Context, *http.Request, func(Progress)) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		out, flush := json.NewEncoder(w), http.NewResponseController(w)
		last := &lastLine{ResponseWriter: w}
		tell := func(p Progress) {
			last.begun.Store(true)
			// The caller may be gone; the work goes on.
			_ = out.Encode(line{Progress: &p})
			_ = flush.Flush()
		}
		s.change(name, func(ctx context.Context, r *http.Request) (any, error) {
			return do(ctx, r, tell)
		}).ServeHTTP(last, r)
	}
}

// lastLine writes an answer of reply as the last line of a job's; the status of
// the whole was that of its first line. An error before the first line is answered as
// elsewhere.
type lastLine struct {
	http.ResponseWriter

	begun         atomic.Bool // a line was written
	failed, plain bool
}

func (l *lastLine) Header() http.Header { return http.Header{} }

func (l *lastLine) WriteHeader(status int) {
	l.failed = status != http.StatusOK
	if l.plain = l.failed && !l.begun.Load(); l.plain {
		l.ResponseWriter.WriteHeader(status)
	}
}

func (l *lastLine) Write(b []byte) (int, error) {
	if l.plain {
		return l.ResponseWriter.Write(b)
	}
	end := line{Answer: b}
	if l.failed {
		end = line{Error: &Error{}}
		if err := json.Unmarshal(b, end.Error); err != nil {
			return 0, err
		}
	}
	return len(b), json.NewEncoder(l.ResponseWriter).Encode(end)
}

// job asks for long work and reads how far it is until it ends.
func (c *Client) job(ctx context.Context, path string, body any, tell func(Progress), answer any) error {
	resp, err := c.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var l line
		err := dec.Decode(&l)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return Errorf(KindInternal, "the daemon ended before the work did").WithHint("all is as it was, or done: look, and try again")
		case err != nil:
			return fmt.Errorf("reading the daemon's answer: %w", err)
		case l.Error != nil:
			return l.Error
		case l.Progress != nil && tell != nil:
			tell(*l.Progress)
		case l.Answer != nil:
			if answer == nil {
				return nil
			}
			return json.Unmarshal(l.Answer, answer)
		}
	}
}

// Snapshots implements Daemon.
func (c *Client) Snapshots(ctx context.Context, serial device.Serial) (s []Snapshot, err error) {
	return s, c.do(ctx, http.MethodGet, "boards/"+serial.String()+"/snapshots", nil, &s)
}

// Snapshot implements Daemon.
func (c *Client) Snapshot(ctx context.Context, serial device.Serial, note string, keep time.Duration, tell func(Progress)) (s Snapshot, err error) {
	return s, c.job(ctx, "boards/"+serial.String()+"/snapshot", jobBody{Note: note, Keep: keep}, tell, &s)
}

// Restore implements Daemon.
func (c *Client) Restore(ctx context.Context, serial device.Serial, n int, tell func(Progress)) error {
	return c.job(ctx, "boards/"+serial.String()+"/restore", jobBody{N: n}, tell, nil)
}

// RemoveSnapshot implements Daemon.
func (c *Client) RemoveSnapshot(ctx context.Context, serial device.Serial, n int) error {
	return c.job(ctx, "boards/"+serial.String()+"/remove-snapshot", jobBody{N: n}, nil, nil)
}

// Replace implements Daemon.
func (c *Client) Replace(ctx context.Context, old, now device.Serial) error {
	return c.do(ctx, http.MethodPost, "boards/"+old.String()+"/replace", map[string]device.Serial{"by": now}, nil)
}

// Undo implements Daemon.
func (c *Client) Undo(ctx context.Context, serial device.Serial, tell func(Progress)) (m Move, err error) {
	return m, c.job(ctx, "boards/"+serial.String()+"/undo-rebase", jobBody{}, tell, &m)
}

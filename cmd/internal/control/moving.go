package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"rubus/config/device"
)

// Movers is what the control socket offers to those who carry boards to other machines,
// which they read and write beside the daemon.
type Movers interface {
	// Hold keeps a board's writes and record as they are until release is called, whose error
	// says that they were not kept for so long. A board that was never seen is KindNotFound.
	Hold(ctx context.Context, serial device.Serial) (release func() error, err error)
	// TakeIn makes what lies in a stage the state of a board: see package backup.
	TakeIn(ctx context.Context, serial device.Serial, stage string) (TakenIn, error)
}

// TakenIn is what became of a board that was taken in.
type TakenIn struct {
	// New says that the board had nothing here before.
	New bool `json:"new"`
	// Snapshots counts those that came to it, Kept names files that it had already.
	Snapshots int      `json:"snapshots"`
	Kept      []string `json:"kept,omitempty"`
}

// holdFor is for how long a board is held at most: its programs wait meanwhile.
const holdFor = 15 * time.Minute

func (s *server) moverRoutes(m *http.ServeMux) {
	m.HandleFunc("POST /v1/boards/{serial}/hold", s.hold)
	m.HandleFunc("POST /v1/boards/{serial}/take-in", s.change("take in", func(ctx context.Context, r *http.Request) (any, error) {
		var b struct {
			Stage string `json:"stage"`
		}
		if err := readBody(r, &b); err != nil {
			return nil, err
		}
		return s.board(func(ctx context.Context, serial device.Serial) (any, error) {
			return s.d.TakeIn(ctx, serial, b.Stage)
		})(ctx, r)
	}))
}

// hold holds a board for as long as its caller keeps the connection, or holdFor.
func (s *server) hold(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), holdFor)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	serial, err := device.ParseSerial(r.PathValue("serial"))
	if err != nil {
		reply(w, nil, Errorf(KindInvalid, "%v", err))
		return
	}
	began := time.Now()
	release, err := s.d.Hold(ctx, serial)
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer func() {
		level := slog.LevelInfo
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			level = slog.LevelWarn
		}
		attrs := append([]any{"verb", "hold"}, callerOf(r.Context()).attrs()...)
		s.log.Log(context.WithoutCancel(ctx), level, LogMessage, append(attrs, "serial", serial, "for", time.Since(began), "err", release())...)
	}()
	_ = json.NewEncoder(w).Encode(line{Answer: json.RawMessage("{}")})
	_ = http.NewResponseController(w).Flush()
	<-ctx.Done()
}

// Hold implements Daemon.
func (c *Client) Hold(ctx context.Context, serial device.Serial) (release func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	resp, err := c.send(ctx, http.MethodPost, "boards/"+serial.String()+"/hold", nil)
	if err != nil {
		cancel()
		return nil, err
	}
	fail := func(err error) (func() error, error) {
		cancel()
		resp.Body.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		e := &Error{}
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(e); err != nil || e.Message == "" {
			return fail(Errorf(KindInternal, "the daemon answered %s", resp.Status).WithHint("is it of another version? see \"rubus version\" and \"rubus status\""))
		}
		return fail(e)
	}
	in := bufio.NewReader(resp.Body)
	if _, err := in.ReadSlice('\n'); err != nil {
		return fail(Errorf(KindInternal, "the daemon ended before it held board %s", serial))
	}
	// The daemon says nothing more: what ends the answer before release is its end.
	ended := make(chan struct{})
	go func() {
		_, _ = in.ReadByte()
		close(ended)
	}()
	return func() error {
		defer resp.Body.Close()
		defer cancel()
		select {
		case <-ended:
			return Errorf(KindBusy, "the daemon let board %s go on before it was copied", serial).
				WithHint("it holds a board for 15 minutes at most, and not when it ends")
		default:
			return nil
		}
	}, nil
}

// TakeIn implements Daemon.
func (c *Client) TakeIn(ctx context.Context, serial device.Serial, stage string) (t TakenIn, err error) {
	return t, c.do(ctx, http.MethodPost, "boards/"+serial.String()+"/take-in", map[string]string{"stage": stage}, &t)
}

package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"rubus/config/device"
)

// Movers is what the control socket offers to those who carry boards to other machines,
// which they read and write beside the daemon.
type Movers interface {
	// Hold keeps a board's writes and record as they are until release is called, or held ends.
	// The error of release says that they were not kept for so long: KindBoots when the board
	// began to boot, which does not wait. A board that was never seen is KindNotFound.
	Hold(ctx context.Context, serial device.Serial) (held context.Context, release func() error, err error)
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

// holds are the boards that callers hold, by what they were told to release them with.
type holds struct {
	mu  sync.Mutex
	now map[string]context.CancelFunc
}

// end ends a hold, unless it ended by itself.
func (h *holds) end(token string) (held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	cancel, held := h.now[token]
	if held {
		delete(h.now, token)
		cancel()
	}
	return held
}

// token is what a caller is told.
type token struct {
	Token string `json:"token"`
}

func (s *server) moverRoutes(m *http.ServeMux) {
	m.HandleFunc("POST /v1/boards/{serial}/hold", s.hold)
	m.HandleFunc("POST /v1/release", s.read(func(_ context.Context, r *http.Request) (any, error) {
		var b token
		if err := readBody(r, &b); err != nil {
			return nil, err
		}
		if !s.holds.end(b.Token) {
			return nil, heldNoMore(nil)
		}
		return struct{}{}, nil
	}))
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

// hold holds a board until it is released, its caller closes the connection, or for holdFor.
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
	kept, release, err := s.d.Hold(ctx, serial)
	if err != nil {
		reply(w, nil, err)
		return
	}
	h := token{Token: rand.Text()}
	s.holds.mu.Lock()
	s.holds.now[h.Token] = cancel
	s.holds.mu.Unlock()
	out := json.NewEncoder(w)
	defer func() {
		// From here on it counts as let go: who releases it now is told so.
		level := slog.LevelWarn
		released := !s.holds.end(h.Token)
		if released {
			level = slog.LevelInfo
		}
		err := release()
		if !released {
			_ = out.Encode(line{Error: heldNoMore(err)})
		}
		attrs := append([]any{"verb", "hold"}, callerOf(r.Context()).attrs()...)
		s.log.Log(context.WithoutCancel(ctx), level, LogMessage, append(attrs, "serial", serial, "for", time.Since(began), "err", err)...)
	}()
	if b, err := json.Marshal(h); err == nil {
		_ = out.Encode(line{Answer: b})
	}
	_ = http.NewResponseController(w).Flush()
	<-kept.Done()
}

// heldNoMore tells why a board was let go before its holder released it.
func heldNoMore(err error) *Error {
	var e *Error
	if errors.As(err, &e) && e.Kind == KindBoots {
		return e
	}
	return Errorf(KindBusy, "the daemon let the board go on before it was copied").
		WithHint("it holds a board for 15 minutes at most")
}

// Hold implements Daemon.
func (c *Client) Hold(ctx context.Context, serial device.Serial) (held context.Context, release func() error, err error) {
	life, cancel := context.WithCancelCause(ctx)
	resp, err := c.send(life, http.MethodPost, "boards/"+serial.String()+"/hold", nil)
	if err != nil {
		cancel(nil)
		return nil, nil, err
	}
	end := func() {
		cancel(nil)
		resp.Body.Close()
	}
	if resp.StatusCode != http.StatusOK {
		defer end()
		e := &Error{}
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(e); err != nil || e.Message == "" {
			return nil, nil, Errorf(KindInternal, "the daemon answered %s", resp.Status).WithHint("is it of another version? see \"rubus version\" and \"rubus status\"")
		}
		return nil, nil, e
	}
	var l line
	var h token
	answers := json.NewDecoder(resp.Body)
	err = answers.Decode(&l)
	if err == nil {
		err = json.Unmarshal(l.Answer, &h)
	}
	if err != nil {
		end()
		return nil, nil, Errorf(KindInternal, "the daemon ended before it held board %s", serial)
	}
	go func() { // until it is let go, by whomever
		var last line
		if err := answers.Decode(&last); err == nil && last.Error != nil {
			cancel(last.Error)
		}
		cancel(Errorf(KindInternal, "the daemon ended while it held board %s", serial))
	}()
	return life, func() error {
		defer end()
		if err := context.Cause(life); err != nil {
			return err
		}
		return c.do(ctx, http.MethodPost, "release", h, nil)
	}, nil
}

// TakeIn implements Daemon.
func (c *Client) TakeIn(ctx context.Context, serial device.Serial, stage string) (t TakenIn, err error) {
	return t, c.do(ctx, http.MethodPost, "boards/"+serial.String()+"/take-in", map[string]string{"stage": stage}, &t)
}

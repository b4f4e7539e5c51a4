package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
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

// held is what a caller is told.
type held struct {
	Token string `json:"token"`
}

func (s *server) moverRoutes(m *http.ServeMux) {
	m.HandleFunc("POST /v1/boards/{serial}/hold", s.hold)
	m.HandleFunc("POST /v1/release", s.read(func(_ context.Context, r *http.Request) (any, error) {
		var b held
		if err := readBody(r, &b); err != nil {
			return nil, err
		}
		if !s.holds.end(b.Token) {
			return nil, Errorf(KindBusy, "the daemon let the board go on before it was copied").
				WithHint("it holds a board for 15 minutes at most")
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
	release, err := s.d.Hold(ctx, serial)
	if err != nil {
		reply(w, nil, err)
		return
	}
	h := held{Token: rand.Text()}
	s.holds.mu.Lock()
	s.holds.now[h.Token] = cancel
	s.holds.mu.Unlock()
	defer func() {
		// From here on it counts as let go: who releases it now is told so.
		level := slog.LevelWarn
		if !s.holds.end(h.Token) {
			level = slog.LevelInfo
		}
		attrs := append([]any{"verb", "hold"}, callerOf(r.Context()).attrs()...)
		s.log.Log(context.WithoutCancel(ctx), level, LogMessage, append(attrs, "serial", serial, "for", time.Since(began), "err", release())...)
	}()
	if b, err := json.Marshal(h); err == nil {
		_ = json.NewEncoder(w).Encode(line{Answer: b})
	}
	_ = http.NewResponseController(w).Flush()
	<-ctx.Done()
}

// Hold implements Daemon.
func (c *Client) Hold(ctx context.Context, serial device.Serial) (release func() error, err error) {
	life, cancel := context.WithCancel(ctx)
	resp, err := c.send(life, http.MethodPost, "boards/"+serial.String()+"/hold", nil)
	if err != nil {
		cancel()
		return nil, err
	}
	end := func() {
		cancel()
		resp.Body.Close()
	}
	if resp.StatusCode != http.StatusOK {
		defer end()
		e := &Error{}
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(e); err != nil || e.Message == "" {
			return nil, Errorf(KindInternal, "the daemon answered %s", resp.Status).WithHint("is it of another version? see \"rubus version\" and \"rubus status\"")
		}
		return nil, e
	}
	var l line
	var h held
	err = json.NewDecoder(resp.Body).Decode(&l)
	if err == nil {
		err = json.Unmarshal(l.Answer, &h)
	}
	if err != nil {
		end()
		return nil, Errorf(KindInternal, "the daemon ended before it held board %s", serial)
	}
	return func() error {
		defer end()
		return c.do(ctx, http.MethodPost, "release", h, nil)
	}, nil
}

// TakeIn implements Daemon.
func (c *Client) TakeIn(ctx context.Context, serial device.Serial, stage string) (t TakenIn, err error) {
	return t, c.do(ctx, http.MethodPost, "boards/"+serial.String()+"/take-in", map[string]string{"stage": stage}, &t)
}

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"rubus/config/device"
)

// maxBody bounds what is read of a request, in bytes: the largest is a rebase of
// thousands of boards.
const maxBody = 64 << 10

// server answers requests; see Serve.
type server struct {
	d   Daemon
	log *slog.Logger
	// stopping ends a change that is under way when the daemon ends.
	stopping context.Context //nolint:containedctx // it is the life of Serve, not of a call
	holds    holds
}

// Serve answers requests on ln until ctx ends, then closes ln and waits up to
// 5 seconds for requests under way. A change is not given up when its caller
// goes away, only when ctx ends. Every change is logged with its caller's uid.
func Serve(ctx context.Context, ln net.Listener, d Daemon, log *slog.Logger) error {
	s := &server{d: d, log: log, stopping: ctx, holds: holds{now: map[string]context.CancelFunc{}}}
	h := &http.Server{
		Handler:           s.routes(),
		ConnContext:       withCaller,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ReadHeaderTimeout: 5 * time.Second,
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving the control socket: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if h.Shutdown(grace) != nil {
		h.Close()
	}
	<-ended
	return nil
}

func (s *server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/status", s.read(func(ctx context.Context, _ *http.Request) (any, error) {
		return s.d.Status(ctx)
	}))
	m.HandleFunc("GET /v1/boards", s.read(func(ctx context.Context, _ *http.Request) (any, error) {
		return s.d.Boards(ctx)
	}))
	m.HandleFunc("GET /v1/leases", s.read(func(ctx context.Context, _ *http.Request) (any, error) {
		return s.d.Leases(ctx)
	}))
	m.HandleFunc("GET /v1/boards/{serial}", s.read(s.board(func(ctx context.Context, serial device.Serial) (any, error) {
		return s.d.Board(ctx, serial)
	})))
	m.HandleFunc("GET /v1/boards/{serial}/reset", s.read(s.board(func(ctx context.Context, serial device.Serial) (any, error) {
		return s.d.ResetPlan(ctx, serial)
	})))
	m.HandleFunc("GET /v1/boards/{serial}/log", s.read(s.bootLog))
	m.HandleFunc("POST /v1/boards/{serial}/stop", s.change("stop", s.board(func(ctx context.Context, serial device.Serial) (any, error) {
		return struct{}{}, s.d.Stop(ctx, serial)
	})))
	m.HandleFunc("POST /v1/boards/{serial}/reset", s.long("reset", func(ctx context.Context, r *http.Request, tell func(Progress)) (any, error) {
		var o ResetOptions
		if err := readBody(r, &o); err != nil {
			return nil, err
		}
		return s.board(func(ctx context.Context, serial device.Serial) (any, error) {
			return struct{}{}, s.d.Reset(ctx, serial, o, tell)
		})(ctx, r)
	}))
	m.HandleFunc("POST /v1/reload", s.change("reload", func(ctx context.Context, r *http.Request) (any, error) {
		var body struct {
			Yes bool `json:"yes"`
		}
		if err := readBody(r, &body); err != nil {
			return nil, err
		}
		return s.d.Reload(ctx, body.Yes)
	}))
	m.HandleFunc("POST /v1/did", s.did)
	s.stateRoutes(m)
	s.moverRoutes(m)
	s.batchRoutes(m)
	return m
}

// deed is a change that its caller made without the daemon: of images, or of
// devices.yaml.
type deed struct {
	Verb string   `json:"verb"`
	What []string `json:"what,omitempty"`
}

// did logs a deed as change logs a verb.
func (s *server) did(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	var d deed
	if err := readBody(r, &d); err != nil {
		reply(w, nil, err)
		return
	}
	// The daemon's own verbs are logged by those who do them.
	if d.Verb != "edit" && !strings.HasPrefix(d.Verb, "image ") {
		reply(w, nil, Errorf(KindInvalid, "%q is no change that is made beside the daemon", d.Verb))
		return
	}
	s.log.Info(LogMessage, append([]any{"verb", d.Verb}, append(callerOf(r.Context()).attrs(), "what", d.What)...)...)
	reply(w, struct{}{}, nil)
}

// verb does one request and returns what to answer.
type verb func(ctx context.Context, r *http.Request) (any, error)

// board is a verb about the board that the path names.
func (s *server) board(f func(context.Context, device.Serial) (any, error)) verb {
	return func(ctx context.Context, r *http.Request) (any, error) {
		serial, err := device.ParseSerial(r.PathValue("serial"))
		if err != nil {
			return nil, Errorf(KindInvalid, "%v", err)
		}
		return f(ctx, serial)
	}
}

// read is a handler that changes nothing.
func (s *server) read(v verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := v(r.Context(), r)
		reply(w, answer, err)
	}
}

// change is a handler whose verb is logged with who asked for it.
func (s *server) change(name string, v verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer cancel()
		defer context.AfterFunc(s.stopping, cancel)()
		answer, err := v(ctx, r)
		attrs := append([]any{"verb", name}, callerOf(ctx).attrs()...)
		if serial := r.PathValue("serial"); serial != "" {
			attrs = append(attrs, "serial", serial)
		}
		if err != nil {
			attrs = append(attrs, "err", err)
		}
		s.log.Info(LogMessage, attrs...)
		reply(w, answer, err)
	}
}

// readBody decodes the one JSON object of a request; no body is an empty one.
func readBody(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return Errorf(KindInvalid, "reading the request: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Errorf(KindInvalid, "reading the request: more than one JSON object, or more than %d bytes", maxBody)
	}
	return nil
}

func reply(w http.ResponseWriter, answer any, err error) {
	status := http.StatusOK
	if err != nil {
		e := toError(err)
		status, answer = httpStatus(e.Kind), e
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The caller may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(answer)
}

// toError is err in the form that crosses the socket. The text is the whole
// chain's, kind and hints are those of the innermost *Error; other errors may
// bring a hint with a Hint method.
func toError(err error) *Error {
	e := &Error{Kind: KindInternal, Message: err.Error()}
	if in, ok := errors.AsType[*Error](err); ok {
		e.Kind, e.Hints = in.Kind, in.Hints
		return e
	}
	var hinter interface {
		error
		Hint() string
	}
	if errors.As(err, &hinter) && hinter.Hint() != "" {
		e.Hints = []string{hinter.Hint()}
	}
	return e
}

func httpStatus(k Kind) int {
	switch k {
	case KindNotFound:
		return http.StatusNotFound
	case KindRefused, KindNothing:
		return http.StatusConflict
	case KindBusy, KindBoots:
		return http.StatusServiceUnavailable
	case KindInvalid:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rubus/boot/flight"
	"rubus/config/device"
)

// fake is a daemon that answers what the test sets and notes what was asked.
type fake struct {
	States  // the verbs that state_test.go asks for
	Rebases // and those of batch_test.go

	status Status
	err    error
	// boots ends the last hold.
	boots func()

	mu    sync.Mutex
	calls []string
	// block, when not nil, holds Reset until somebody sends or ctx ends; entered
	// and left are closed when it begins and ends.
	entered, block, left chan struct{}
}

func (f *fake) note(format string, a ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, a...))
}

func (f *fake) Status(context.Context) (Status, error)  { return f.status, f.err }
func (f *fake) Boards(context.Context) ([]Board, error) { return f.status.Boards, f.err }
func (f *fake) Board(_ context.Context, s device.Serial) (Board, error) {
	for _, b := range f.status.Boards {
		if b.Serial == s {
			return b, nil
		}
	}
	return Board{}, fmt.Errorf("board %s: %w", s, Errorf(KindNotFound, "nothing is known of it").WithHint("see \"rubus status\""))
}

func (f *fake) Leases(context.Context) ([]Lease, error) {
	return []Lease{{State: "bound", Host: "laptop"}}, f.err
}

func (f *fake) Stop(_ context.Context, s device.Serial) error {
	f.note("stop %s", s)
	return f.err
}

func (f *fake) ResetPlan(_ context.Context, s device.Serial) (ResetPlan, error) {
	return ResetPlan{Serial: s, Up: "no", Uppers: []Upper{{Name: "b.1", Bytes: 5}}}, f.err
}

func (f *fake) Reset(ctx context.Context, s device.Serial, o ResetOptions, tell func(Progress)) error {
	if f.block != nil {
		close(f.entered)
		defer close(f.left)
		select {
		case <-f.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.note("reset %s %v", s, o.Force)
	if len(o.Keep) > 0 {
		tell(Progress{Bytes: 7})
		f.note("keep %q", o.Keep)
	}
	return f.err
}

func (f *fake) Log(_ context.Context, s device.Serial, n int) (BootLog, error) {
	f.note("log %s %d", s, n)
	return BootLog{Timeline: flight.Timeline{Serial: s, N: 7}, Verdict: flight.Verdict{Text: "good"}}, f.err
}

func (f *fake) Reload(_ context.Context, yes bool) (Reloaded, error) {
	f.note("reload %v", yes)
	return Reloaded{Devices: 3}, f.err
}

func (f *fake) Hold(ctx context.Context, s device.Serial) (context.Context, func() error, error) {
	f.note("hold %s", s)
	held, cancel := context.WithCancelCause(ctx)
	f.boots = func() { cancel(Errorf(KindBoots, "it boots")) }
	return held, func() error { f.note("release %s", s); return context.Cause(held) }, f.err
}

func (f *fake) TakeIn(_ context.Context, s device.Serial, stage string) (TakenIn, error) {
	f.note("take in %s %s", s, stage)
	return TakenIn{New: true, Snapshots: 2}, f.err
}

// syncBuffer is a log that the server may still write while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start serves d on a socket of its own; end stops it and waits.
func start(t *testing.T, d Daemon) (c *Client, log *syncBuffer, end func()) {
	t.Helper()
	log = &syncBuffer{}
	l := slog.New(slog.NewTextHandler(log, nil))
	path := filepath.Join(t.TempDir(), "control.sock")
	ln, err := Listen(path, "", l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, d, l) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return NewClient(path), log, end
}

func serial(t *testing.T, s string) device.Serial {
	t.Helper()
	n, err := device.ParseSerial(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestVerbs(t *testing.T) {
	one := serial(t, "5b154510")
	f := &fake{status: Status{Running: true, PID: 7, Boards: []Board{{Serial: one, Phase: "running", Up: "yes"}}}}
	c, log, _ := start(t, f)
	ctx := t.Context()

	s, err := c.Status(ctx)
	if err != nil || len(s.Boards) != 1 || s.PID != 7 {
		t.Errorf("Status: %+v, %v", s, err)
	}
	if b, err := c.Boards(ctx); err != nil || len(b) != 1 || b[0].Serial != one {
		t.Errorf("Boards: %+v, %v", b, err)
	}
	if b, err := c.Board(ctx, one); err != nil || b.Phase != "running" {
		t.Errorf("Board: %+v, %v", b, err)
	}
	if l, err := c.Leases(ctx); err != nil || len(l) != 1 || l[0].Host != "laptop" {
		t.Errorf("Leases: %+v, %v", l, err)
	}
	if p, err := c.ResetPlan(ctx, one); err != nil || p.Uppers[0].Bytes != 5 {
		t.Errorf("ResetPlan: %+v, %v", p, err)
	}
	if strings.Contains(log.String(), "verb=") {
		t.Errorf("reading was logged: %s", log)
	}
	if err := errors.Join(c.Stop(ctx, one), c.Reset(ctx, one, ResetOptions{Force: true}, nil), c.Reset(ctx, one, ResetOptions{}, nil)); err != nil {
		t.Error(err)
	}
	var copied []Progress
	err = c.Reset(ctx, one, ResetOptions{Keep: []string{"/home"}}, func(p Progress) { copied = append(copied, p) })
	if err != nil || len(copied) != 1 || copied[0].Bytes != 7 {
		t.Errorf("a reset that keeps: %v, told %+v", err, copied)
	}
	if r, err := c.Reload(ctx, true); err != nil || r.Devices != 3 {
		t.Errorf("Reload: %+v, %v", r, err)
	}
	if err := c.Did(ctx, "image tag", "lab", "lab@2\nverb=stop"); err != nil {
		t.Errorf("Did: %v", err)
	}
	if err := c.Did(ctx, "reset", "5b154510"); err == nil {
		t.Error("a caller says that the daemon reset a board, and is believed")
	}
	want := []string{"stop 5b154510", "reset 5b154510 true", "reset 5b154510 false", "reset 5b154510 false", `keep ["/home"]`, "reload true"}
	if diff := cmp.Diff(want, f.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	for _, line := range []string{
		"verb=stop uid=%d pid=%d serial=5b154510",
		"verb=reset uid=%d pid=%d serial=5b154510",
		"verb=reload uid=%d pid=%d",
		`verb="image tag" uid=%d pid=%d what="[lab lab@2\nverb=stop]"`,
	} {
		if line = fmt.Sprintf(line, os.Getuid(), os.Getpid()); !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %q:\n%s", line, log)
		}
	}
}

func TestErrors(t *testing.T) {
	one := serial(t, "5b154510")
	for name, c := range map[string]struct {
		err  error
		want Error
	}{
		"plain":        {errors.New("disk on fire"), Error{Kind: KindInternal, Message: "disk on fire"}},
		"kind":         {Errorf(KindRefused, "it is up").WithHint("say --force"), Error{KindRefused, "it is up", []string{"say --force"}}},
		"wrapped kind": {fmt.Errorf("reset: %w", Errorf(KindBusy, "in use")), Error{Kind: KindBusy, Message: "reset: in use"}},
		"not found":    {Errorf(KindNotFound, "no"), Error{Kind: KindNotFound, Message: "no"}},
		"invalid":      {Errorf(KindInvalid, "devices.yaml:1: x\ndevices.yaml:2: y"), Error{Kind: KindInvalid, Message: "devices.yaml:1: x\ndevices.yaml:2: y"}},
		"other hint":   {hinted{}, Error{KindInternal, "hinted", []string{"do it"}}},
	} {
		t.Run(name, func(t *testing.T) {
			client, _, _ := start(t, &fake{err: c.err})
			var got *Error
			if err := client.Stop(t.Context(), one); !errors.As(err, &got) {
				t.Fatalf("Stop: %v", err)
			}
			if diff := cmp.Diff(&c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

type hinted struct{}

func (hinted) Error() string { return "hinted" }
func (hinted) Hint() string  { return "do it" }

// raw sends one request as it is and returns status and answer.
func raw(t *testing.T, c *Client, method, path, body string) (int, Error) {
	t.Helper()
	req, err := http.NewRequest(method, "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e Error
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(b, &e)
	return resp.StatusCode, e
}

func TestBadRequests(t *testing.T) {
	f := &fake{}
	c, _, _ := start(t, f)
	for name, r := range map[string]struct {
		method, path, body string
		status             int
	}{
		"no such path":     {"GET", "/v1/nothing", "", 404},
		"change by GET":    {"GET", "/v1/reload", "", 405},
		"bad serial":       {"POST", "/v1/boards/..%2f..%2fab/stop", "", 400},
		"short serial":     {"POST", "/v1/boards/5b15/stop", "", 400},
		"no JSON":          {"POST", "/v1/reload", "yes", 400},
		"unknown key":      {"POST", "/v1/boards/5b154510/reset", `{"forced": true}`, 400},
		"wrong type":       {"POST", "/v1/boards/5b154510/reset", `{"force": "yes"}`, 400},
		"two objects":      {"POST", "/v1/reload", `{}{}`, 400},
		"too large":        {"POST", "/v1/reload", strings.Repeat(" ", maxBody) + `{"yes":true}`, 400},
		"large after JSON": {"POST", "/v1/reload", `{"yes":true}` + strings.Repeat(" ", maxBody), 400},
	} {
		t.Run(name, func(t *testing.T) {
			status, e := raw(t, c, r.method, r.path, r.body)
			if status != r.status || status == 400 && (e.Kind != KindInvalid || e.Message == "") {
				t.Errorf("%d, %+v; want %d", status, e, r.status)
			}
		})
	}
	if f.calls != nil {
		t.Errorf("a bad request reached the daemon: %v", f.calls)
	}
	if status, _ := raw(t, c, "POST", "/v1/reload", ""); status != 200 {
		t.Errorf("no body: %d", status)
	}
}

// TestChangeOutlivesCaller wants a reset that has begun to end, though whoever
// asked for it went away; and to be given up when the daemon ends.
func TestChangeOutlivesCaller(t *testing.T) {
	one := serial(t, "5b154510")
	for name, stop := range map[string]bool{"caller goes": false, "daemon ends": true} {
		t.Run(name, func(t *testing.T) {
			f := &fake{entered: make(chan struct{}), block: make(chan struct{}), left: make(chan struct{})}
			c, _, end := start(t, f)
			ctx, cancel := context.WithCancel(t.Context())
			asked := make(chan error, 1)
			go func() { asked <- c.Reset(ctx, one, ResetOptions{}, nil) }()
			<-f.entered
			if stop {
				end()
			} else {
				cancel()
				<-asked
				select {
				case f.block <- struct{}{}: // before end: else both could be why it ends
				case <-f.left:
				}
				<-f.left
				end()
			}
			cancel()
			if done := len(f.calls) == 1; done == stop {
				t.Errorf("calls: %v", f.calls)
			}
		})
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	for name, path := range map[string]string{"no socket": filepath.Join(dir, "none"), "nobody listens": dead} {
		t.Run(name, func(t *testing.T) {
			_, err := NewClient(path).Status(t.Context())
			var e *Error
			if !errors.As(err, &e) || e.Kind != KindNotRunning || len(e.Hints) == 0 {
				t.Errorf("Status: %v", err)
			}
		})
	}
}

// FuzzRequest wants no body to break the server, and none that is no request
// to reach the daemon.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{"", "{}", `{"yes":true}`, `{"yes":1}`, "[", `{"yes":true}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := http.NewRequest("POST", "http://x/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Yes bool `json:"yes"`
		}
		if readBody(req, &v) == nil && len(bytes.TrimSpace(body)) > 0 && !json.Valid(body) {
			t.Fatalf("%q was taken", body)
		}
	})
}

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rubus/boot/batch"
	"rubus/cmd/internal/control"
	"rubus/config/device"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[2] == "edit-inside" { // by tests that call run
		main()
	}
	testscript.Main(m, map[string]func(){"rubus": main})
}

// TestScript runs testdata/script/*.txtar, each verb of the command among
// them. The command finds everything below $WORK. Scripts say
//
//	daemon FILE        a daemon answers as FILE (JSON) says, and notes what it
//	                   was asked to change in $WORK/calls
//	widest N FILE      no line of FILE has more than N characters
//	json FILE [A.B]... FILE is one JSON document, in which these keys are; FILE may be
//	                   stdout
//	https              a web server has what is in $WORK at $URL
//	bootloader N FILE  FILE is a bootloader of N bytes with an order of 0xf41
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("RUBUS_CACHE", os.Getenv("RUBUS_CACHE"))
			scripts, err := filepath.Abs("../../scripts")
			if err != nil {
				return err
			}
			e.Setenv("SCRIPTS", scripts)
			e.Setenv("RUBUS_STATE", filepath.Join(e.WorkDir, "state"))
			e.Setenv("RUBUS_RUN", filepath.Join(e.WorkDir, "run"))
			e.Setenv("RUBUS_CONFIG", filepath.Join(e.WorkDir, "rubus.yaml"))
			e.Setenv("RUBUS_DEVICES", filepath.Join(e.WorkDir, "devices.yaml"))
			return os.MkdirAll(filepath.Join(e.WorkDir, "run"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"daemon": startScripted, "widest": widest, "bootloader": makeBootloader, "json": isJSON, "https": serveWork},
	})
}

func widest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: widest N FILE")
	}
	var limit int
	_, err := fmt.Sscan(args[0], &limit)
	ts.Check(err)
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > limit {
			ts.Fatalf("%d characters: %s", n, line)
		}
	}
}

func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: json FILE [KEY.KEY]...")
	}
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	var whole any
	ts.Check(d.Decode(&whole))
	if d.More() {
		ts.Fatalf("there is more than one document")
	}
	for _, path := range args[1:] {
		at := whole
		for key := range strings.SplitSeq(path, ".") {
			m, _ := at.(map[string]any)
			next, ok := m[key]
			if !ok {
				ts.Fatalf("there is no %s", path)
			}
			at = next
		}
	}
}

// serveWork has commands trust a web server of the script's own.
func serveWork(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: https")
	}
	server := httptest.NewTLSServer(http.FileServer(http.Dir(ts.Getenv("WORK"))))
	ts.Defer(server.Close)
	trusted := ts.MkAbs("trusted.pem")
	ts.Check(os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	ts.Setenv("SSL_CERT_FILE", trusted)
	ts.Setenv("URL", server.URL)
}

func makeBootloader(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bootloader N FILE")
	}
	var size int
	_, err := fmt.Sscan(args[0], &size)
	ts.Check(err)
	b := bytes.Repeat([]byte{0xff}, size)
	const at = 0x72e00
	put := func(at int, magic uint32, body []byte) {
		binary.BigEndian.PutUint32(b[at:], magic)
		binary.BigEndian.PutUint32(b[at+4:], uint32(len(body)))
		copy(b[at+8:], body)
	}
	put(0, 0x55aaf00f, make([]byte, at-8))
	put(at, 0x55aaf11f, append([]byte("bootconf.txt\x00\x00\x00\x00"), "[all]\nBOOT_ORDER=0xf41\n"...))
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[1])), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

// scripted is a daemon for scripts: what it knows is a file.
type scripted struct {
	control.States // what no script asks for
	world
	mu    sync.Mutex
	calls string
}

type world struct {
	Status control.Status
	// Ago and PlanAgo say how long ago what boards do, and uppers, began.
	Ago     map[device.Serial]string
	Plan    control.ResetPlan
	PlanAgo string
	// Errors are what verbs answer, by verb.
	Errors map[string]*control.Error
	Reply  control.Reloaded
	// LeaseAgo says for each lease how long ago it ended; "-1h": in an hour.
	Leases   []control.Lease
	LeaseAgo []string
	// BootLog is what is recorded of every board.
	BootLog control.BootLog
	// Snapshots are those of every board.
	Snapshots []control.Snapshot
	Batches   []batch.Batch
}

func startScripted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon FILE")
	}
	d := &scripted{calls: ts.MkAbs("calls")}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &d.world))
	ts.Check(os.WriteFile(d.calls, nil, 0o600))
	for i := range d.world.Status.Boards {
		b := &d.world.Status.Boards[i]
		b.Since = ago(ts, d.Ago[b.Serial])
	}
	for i := range d.world.Status.Unknown {
		d.world.Status.Unknown[i].Last = ago(ts, "90s")
		d.world.Status.Unknown[i].First = ago(ts, "26h")
	}
	for i := range d.world.Leases {
		d.world.Leases[i].Until = ago(ts, d.LeaseAgo[i])
	}
	for i := range d.Plan.Uppers {
		d.Plan.Uppers[i].Made = ago(ts, d.PlanAgo)
	}
	stop, err := d.serve(filepath.Join(ts.Getenv("RUBUS_RUN"), "control.sock"))
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
}

// serve answers until stop is called.
func (d *scripted) serve(socket string) (stop func() error, err error) {
	log := slog.New(slog.DiscardHandler)
	ln, err := control.Listen(socket, "", log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, ln, d, log) }()
	return func() error {
		cancel()
		return <-done
	}, nil
}

func ago(ts *testscript.TestScript, span string) time.Time {
	if span == "" {
		return time.Time{}
	}
	d, err := time.ParseDuration(span)
	ts.Check(err)
	return time.Now().Add(-d)
}

// do notes a change and gives the answer of its verb.
func (d *scripted) do(verb, format string, a ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := os.OpenFile(d.calls, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, format+"\n", a...)
	if e := d.Errors[verb]; e != nil {
		return e
	}
	return nil
}

func (d *scripted) Status(context.Context) (control.Status, error) { return d.world.Status, nil }

func (d *scripted) Boards(context.Context) ([]control.Board, error) {
	return d.world.Status.Boards, nil
}

func (d *scripted) Board(_ context.Context, s device.Serial) (control.Board, error) {
	for _, b := range d.world.Status.Boards {
		if b.Serial == s {
			return b, nil
		}
	}
	return control.Board{}, control.Errorf(control.KindNotFound, "no device and no state of board %q", s)
}

func (d *scripted) Leases(context.Context) ([]control.Lease, error) { return d.world.Leases, nil }

func (d *scripted) Stop(_ context.Context, s device.Serial) error { return d.do("stop", "stop %s", s) }

func (d *scripted) ResetPlan(_ context.Context, s device.Serial) (control.ResetPlan, error) {
	p := d.Plan
	p.Serial = s
	return p, nil
}

func (d *scripted) Reset(_ context.Context, s device.Serial, o control.ResetOptions, tell func(control.Progress)) error {
	tell(control.Progress{Bytes: 1, Files: 1})
	return d.do("reset", "reset %s force=%v%s", s, o.Force, strings.Join(append([]string{""}, o.Keep...), " keep="))
}

func (d *scripted) Log(_ context.Context, s device.Serial, n int) (control.BootLog, error) {
	if err := d.do("log", "log %s %d", s, n); err != nil {
		return control.BootLog{}, err
	}
	return d.BootLog, nil
}

func (d *scripted) Reload(_ context.Context, yes bool) (control.Reloaded, error) {
	return d.Reply, d.do("reload", "reload yes=%v", yes)
}

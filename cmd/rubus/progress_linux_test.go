package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	"github.com/spf13/cobra"

	"rubus/boot/batch"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/progress"
	"rubus/config/device"
	"rubus/images/imageref"
)

// long is a verb that takes long, in a killedWorld where lab@2 is what the board wrote over lab@1.
type long struct {
	args string // DIR is the world's directory
	// phase is what it shows first; "": one of several.
	phase  string
	daemon bool // a daemon answers
	before func(*killedWorld)
}

// longVerbs are by the verb, and what else tells rows from each other after a comma.
func longVerbs() map[string]long {
	garbage := func(w *killedWorld) {
		w.put("root/etc/a", "a")
		w.rubus("image", "import", "gone", w.at("root"))
		w.rubus("image", "rm", "gone", "--yes")
	}
	shell := func(w *killedWorld) {
		busyboxIn(w, "shell")
		w.put("lab.yaml", "from: shell\nsteps:\n  - run: echo one >/bin/one\n")
	}
	return map[string]long{
		"image import": {args: "image import lab DIR/root", phase: ""},
		"image import, a tarball": {args: "image import lab DIR/root.tar", phase: "", before: func(w *killedWorld) {
			w.run("tar", "-C", w.at("root"), "-cf", w.at("root.tar"), ".")
		}},
		"image import, a container's": {args: "image import lab docker-archive:DIR/lab.tar", phase: "", before: func(w *killedWorld) {
			w.rubus("image", "export", "lab", "docker-archive:"+w.at("lab.tar"), "--platform", "linux/arm64")
			w.run("rm", "-r", w.at("state/images")) // else it is there
		}},
		"image edit":  {args: "image edit shell -- sh -c 'echo>/bin/new'", phase: "", before: shell},
		"image build": {args: "image build built DIR/lab.yaml", phase: "", before: shell},
		"image lint, --apply": {args: "image lint debian --apply", phase: "", before: func(w *killedWorld) {
			w.put("root/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
			w.put("root/usr/lib/systemd/systemd", "")
			w.rubus("image", "import", "debian", w.at("root"), "--no-rules")
		}},
		"image gc":                 {args: "image gc --yes", phase: "removing", before: garbage},
		"image verify":             {args: "image verify", phase: "verifying"},
		"image diff":               {args: "image diff lab@1 lab@2", phase: "comparing"},
		"image export":             {args: "image export lab docker-archive:DIR/lab.tar --platform linux/arm64", phase: "packing"},
		"device diff":              {args: "device diff 5b154510", phase: "comparing"},
		"device commit":            {args: "device commit 5b154510 mine", phase: "copying"},
		"device promote":           {args: "device promote 5b154510 mine", phase: "copying"},
		"device rebase":            {args: "device rebase 5b154510 lab@2", phase: "comparing"},
		"device rebase, --undo":    {args: "device rebase 5b154510 --undo --yes", phase: "copying", daemon: true},
		"device rebase, a batch's": {args: "device rebase --batch 1 --undo --yes", phase: "copying", daemon: true},
		"device snapshot":          {args: "device snapshot 5b154510", phase: "copying", daemon: true},
		"device restore":           {args: "device restore 5b154510 1 --yes", phase: "copying", daemon: true},
		"device reset":             {args: "device reset 5b154510 --yes", phase: "copying", daemon: true},
		"backup":                   {args: "backup -o DIR/all.tar --images", phase: "writing"},
		"backup, --keep": {args: "backup --to DIR/nas --keep 1 --full", phase: "checking", before: func(w *killedWorld) {
			w.rubus("backup", "--to", w.at("nas"))
		}},
		"restore": {args: "restore DIR/all.tar --yes --dry-run", phase: "reading", before: func(w *killedWorld) {
			w.rubus("backup", "-o", w.at("all.tar"), "--images")
		}},
	}
}

// notLong says of the other verbs why they show no progress.
func notLong() map[string]string {
	const (
		names = "it moves a few names and small files, whatever the size"
		tells = "it prints what it does as it goes"
		quick = "it reads small files, or asks the daemon"
	)
	return map[string]string{
		"image rm": names + ": the disk space comes back with image gc", "image tag": names, "device replace": names,
		"device snapshots": names, "device add": names, "device set": names, "device remove": names, "device enable": names,
		"device disable": names, "device rekey": names, "device stop": "it waits for the daemon, seconds at most",
		"image dedupe": "images/share TestRun has its events; it needs another file system than the others",
		"serve":        tells, "simulate": tells, "doctor": tells,
		"sdcard": "64 MiB at most", "df": "it adds up what the listings of layers say",
		"image edit-inside": "a part of image edit",
		"check":             quick, "reload": quick, "status": quick, "leases": quick, "version": quick,
		"device list": quick, "device show": quick, "device known-hosts": quick, "device log": quick, "image list": quick, "image show": quick,
	}
}

// screen is what a terminal was sent.
type screen struct {
	mu   sync.Mutex
	more *sync.Cond
	text bytes.Buffer
}

func newScreen() *screen {
	s := &screen{}
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more.Broadcast()
	return s.text.Write(b)
}

// wait waits until a text was sent.
func (s *screen) wait(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !bytes.Contains(s.text.Bytes(), []byte(text)) {
		s.more.Wait()
	}
}

// seen is a display whose first state has to be seen before a verb goes on.
type seen struct {
	progress.Display
	once sync.Once
	see  func(progress.State)
}

func (s *seen) Update(st progress.State) {
	s.Display.Update(st)
	s.once.Do(func() { s.see(st) })
}

// Each verb that takes long draws on a terminal how far it is, while it works: it goes on when
// that is seen. Of what is as small as here an import shows its end alone, as it tells ten times a
// second. Into a pipe nothing is drawn, and with --json what is printed is JSON alone.
func TestProgress(t *testing.T) {
	dir := inMemory(t)
	base := newKilledWorld(t, filepath.Join(dir, "base"))
	base.rubus("device", "promote", killedBoard, "lab")
	rows := longVerbs()
	worlds := 0
	for name, c := range rows {
		t.Run(name, func(t *testing.T) {
			w := base.copied(t, filepath.Join(dir, strconv.Itoa(worlds)))
			worlds++
			if c.before != nil {
				c.before(w)
			}
			piped := w.copied(t, w.dir+".piped")

			tty, master, shown := onTerminal(t)
			var phases []string
			g := c.globals(t, w, tty)
			g.Watch = func(d progress.Display) progress.Display {
				return &seen{Display: d, see: func(s progress.State) {
					shown.wait(s.String())
					phases = append(phases, s.Phase)
				}}
			}
			err := execute(t.Context(), g, c.words(w))
			_ = tty.Close()
			_ = master.Close()
			if err != nil || !slices.ContainsFunc(phases, func(p string) bool { return strings.HasPrefix(p, c.phase) }) {
				t.Errorf("it ends with %v; drawn were %q", err, phases)
			}

			var errs, out bytes.Buffer
			g = c.globals(t, piped, nil)
			g.Stderr, g.Stdout = &errs, &out
			if err := execute(t.Context(), g, append([]string{"--json"}, c.words(piped)...)); err != nil {
				t.Error(err)
			}
			if bytes.ContainsAny(errs.Bytes(), "\r\x1b") || bytes.Contains(errs.Bytes(), []byte("[>")) {
				t.Errorf("drawn without a terminal: %q", &errs)
			}
			if !json.Valid(out.Bytes()) {
				t.Errorf("no JSON: %q", &out)
			}
		})
	}
	none := func(string) string { return "" }
	root := newRoot(cli.New(none, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}))
	short := notLong()
	has := map[string]bool{}
	for name := range rows {
		verb, _, _ := strings.Cut(name, ",")
		if c, _, err := root.Find(strings.Fields(verb)); err != nil || "rubus "+verb != c.CommandPath() {
			t.Errorf("there is no verb %q", verb)
		}
		has[verb] = true
	}
	walk(root, func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), "rubus ")
		if _, ok := short[path]; c.Runnable() && ok == has[path] {
			t.Errorf("%q is to be in one of longVerbs and notLong", path)
		}
	})
}

func (c *long) words(w *killedWorld) (out []string) {
	line, script, _ := strings.Cut(strings.ReplaceAll(c.args, "DIR", w.dir), " '")
	out = strings.Fields(line)
	if script != "" {
		out = append(out, strings.TrimSuffix(script, "'"))
	}
	return out
}

// globals are those of a command that runs in the world.
func (c *long) globals(t *testing.T, w *killedWorld, tty *os.File) *cli.Globals {
	t.Helper()
	env := map[string]string{}
	for _, e := range w.env("state") {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	g := cli.New(func(k string) string { return env[k] }, strings.NewReader(""), &bytes.Buffer{}, tty)
	if !c.daemon {
		return g
	}
	if err := errors.Join(os.MkdirAll(g.RunDir, 0o700), os.WriteFile(w.at("calls"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	serial, err := device.ParseSerial(killedBoard)
	if err != nil {
		t.Fatal(err)
	}
	d := &scripted{calls: w.at("calls"), world: world{
		Status:    control.Status{Boards: []control.Board{{Serial: serial, Up: "no"}}},
		Snapshots: []control.Snapshot{{N: 1}},
		Plan:      control.ResetPlan{Uppers: []control.Upper{{Name: "x", Image: imageref.Ref{Name: "lab", Version: 1}}}},
		Batches:   []batch.Batch{{N: 1}},
	}}
	stop, err := d.serve(g.ControlSocket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// onTerminal makes a terminal, of which shown is what it was sent.
func onTerminal(t *testing.T) (tty, master *os.File, shown *screen) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	shown = newScreen()
	go func() { _, _ = io.Copy(shown, master) }() // until both ends are closed
	return tty, master, shown
}

package simulatecmd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/emulator"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
)

// report is what a simulated boot tells: a timeline as it goes on, or one piece
// of JSON at its end.
type report struct {
	g         *cli.Globals
	started   time.Time
	serverLog string

	mu    sync.Mutex
	still bool

	// OK and Verdict say how it ended.
	OK      bool   `json:"ok"`
	Verdict string `json:"verdict"`
	Model   string `json:"model"`
	Serial  string `json:"serial"`
	MAC     string `json:"mac"`
	// Stage is the firmware that stopped; "" when none did.
	Stage         string         `json:"stopped_in,omitempty"`
	Address       string         `json:"address,omitempty"`
	AddressServer string         `json:"address_server,omitempty"`
	Server        string         `json:"server,omitempty"`
	Why           string         `json:"server_from,omitempty"`
	Prefix        string         `json:"prefix,omitempty"`
	Kernel        *fileReport    `json:"kernel,omitempty"`
	Initramfs     *fileReport    `json:"initramfs,omitempty"`
	DTB           *fileReport    `json:"device_tree,omitempty"`
	Overlays      []*fileReport  `json:"overlays,omitempty"`
	Cmdline       string         `json:"cmdline,omitempty"`
	Emulator      emulatorReport `json:"emulator,omitzero"`
	TookMS        int64          `json:"took_ms"`
	Events        []fakepi.Event `json:"events"`
}

type fileReport struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

type emulatorReport struct {
	// Additions are what only the emulator needs, beside what was fetched.
	Additions []emulator.Addition `json:"additions,omitempty"`
	// Boots is how often it went through its firmware and started a kernel.
	Boots int `json:"boots,omitempty"`
	// Login says that the board asked for a user.
	Login bool `json:"login"`
	// Attached says that a person had the console.
	Attached bool         `json:"attached,omitempty"`
	Exec     []execReport `json:"exec,omitempty"`
}

type execReport struct {
	Command string `json:"command"`
	Status  int    `json:"status"`
	Output  string `json:"output"`
}

func newReport(g *cli.Globals, b fakepi.Board) *report {
	r := &report{
		g: g, started: time.Now(), Model: b.Model.Name, Serial: b.Serial.String(), MAC: b.MAC.String(),
		Events: []fakepi.Event{},
	}
	if !g.JSON {
		fmt.Fprintf(g.Stdout, "%s, serial %s, %s\n", b.Model.Title, b.Serial, b.MAC)
	}
	return r
}

// event tells one thing that happened.
func (r *report) event(e fakepi.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Events = append(r.Events, e)
	if !r.g.JSON && !r.still {
		fmt.Fprintln(r.g.Stdout, eventLine(e))
	}
}

// quiet keeps the timeline off the terminal, or lets it on again.
func (r *report) quiet(still bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.still = still
}

// note is an event of the simulation's own.
func (r *report) note(format string, a ...any) {
	r.event(fakepi.Event{
		At: time.Since(r.started), Stage: "simulate", Kind: fakepi.KindNote, Text: fmt.Sprintf(format, a...),
	})
}

// eventLine is an event's line of the timeline.
func eventLine(e fakepi.Event) string {
	line := fmt.Sprintf("%8.3f  %-12s  ", e.At.Seconds(), e.Stage)
	switch e.Kind {
	case fakepi.KindProbe, fakepi.KindRead:
		return line + fileLine(e)
	case fakepi.KindDiscover, fakepi.KindRequest:
		line += strings.ToUpper(string(e.Kind))
		if e.Retries > 0 {
			line += fmt.Sprintf(" again (%d)", e.Retries)
		}
		line += " "
	case fakepi.KindOffer:
		line += "OFFER from " + e.From.String() + ": "
	case fakepi.KindAck:
		line += "from " + e.From.String() + ": "
	}
	return line + e.Text
}

func fileLine(e fakepi.Event) string {
	var s string
	switch e.Outcome {
	case fakepi.Found:
		if s = fmt.Sprintf("%-34s %11s bytes", e.File, thousands(e.Size)); e.Kind == fakepi.KindProbe {
			s += ", only looked for"
		} else {
			s += fmt.Sprintf(" in %s", e.Took.Round(time.Millisecond/10))
		}
	case fakepi.Expected:
		s = fmt.Sprintf("%-34s           - (as on most boards)", e.File)
	case fakepi.Missing:
		s = fmt.Sprintf("%-34s   not found", e.File)
	case fakepi.Failed:
		s = fmt.Sprintf("%-34s      FAILED", e.File)
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Retries > 0 {
		s += fmt.Sprintf(" (%d packets sent again)", e.Retries)
	}
	return s
}

// thousands groups digits: 32,956,352.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// fetched takes what the firmware fetched.
func (r *report) fetched(res *fakepi.Result, err error) {
	if stop, ok := errors.AsType[*fakepi.StopError](err); ok {
		r.Stage = stop.Stage
	}
	if res.Address.IsValid() {
		r.Address, r.AddressServer = res.Address.String(), res.AddressServer.String()
		r.Server, r.Why, r.Prefix = res.Server.String(), res.Why, res.Prefix
	}
	r.Kernel, r.Initramfs, r.DTB = summary(res.Kernel), summary(res.Initramfs), summary(res.DTB)
	for _, o := range res.Overlays {
		r.Overlays = append(r.Overlays, summary(o))
	}
	r.Cmdline = res.Cmdline
	if err != nil || r.g.JSON {
		return
	}
	var b strings.Builder
	b.WriteString("the board would run\n")
	for _, f := range append([]*fileReport{r.Kernel, r.Initramfs, r.DTB}, r.Overlays...) {
		if f != nil {
			fmt.Fprintf(&b, "  %-44s %11s bytes  sha256 %.12s\n", f.Name, thousands(f.Size), f.SHA256)
		}
	}
	fmt.Fprintf(&b, "with\n  %s\n", r.Cmdline)
	fmt.Fprint(r.g.Stdout, b.String())
}

func summary(f fakepi.File) *fileReport {
	if f.Name == "" {
		return nil
	}
	sum := sha256.Sum256(f.Data)
	return &fileReport{f.Name, f.Size, hex.EncodeToString(sum[:])}
}

// additions tells what the emulator adds to what was fetched.
func (r *report) additions(all []emulator.Addition) {
	r.Emulator.Additions = all
	for _, a := range all {
		r.note("only for the emulator, %s: %s (%s)", a.Where, a.Text, a.Why)
	}
}

// finish says how it ended and passes the error on.
func (r *report) finish(err error) error {
	if ui.Code(err) == ui.ExitUsage {
		return err
	}
	r.OK, r.TookMS = err == nil, time.Since(r.started).Milliseconds()
	switch {
	case err != nil:
		r.Verdict = err.Error()
	case r.Emulator.Attached:
		r.Verdict = "the board ran until its console was left"
	case r.Emulator.Login && r.Emulator.Boots > 1:
		r.Verdict = fmt.Sprintf("the board booted to a login prompt %d times", r.Emulator.Boots)
	case r.Emulator.Login:
		r.Verdict = "the board booted to a login prompt"
	default:
		r.Verdict = "the board has all that it needs to boot"
	}
	if r.g.JSON {
		return errors.Join(r.g.PrintJSON(r), err)
	}
	if err == nil {
		fmt.Fprintf(r.g.Stdout, "ok: %s (%s)\n", r.Verdict, time.Since(r.started).Round(time.Second/10))
		return nil
	}
	if r.serverLog != "" {
		err = ui.Hint(err, "the server's last lines:\n"+r.serverLog)
	}
	return err
}

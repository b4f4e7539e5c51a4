package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
)

// SerialOf is the board that an argument names: by serial, or by name in
// devices.yaml or, when that cannot be read, as the daemon knows it.
func (g *Globals) SerialOf(ctx context.Context, arg string) (device.Serial, error) {
	serial, perr := device.ParseSerial(arg)
	if perr == nil {
		return serial, nil
	}
	s, err := g.LoadConfig()
	if err == nil {
		for _, d := range s.Devices() {
			if strings.EqualFold(d.Name, arg) {
				return d.Serial, nil
			}
		}
	} else if boards, derr := g.Daemon().Boards(ctx); derr == nil {
		for _, b := range boards {
			if b.Name != "" && strings.EqualFold(b.Name, arg) {
				return b.Serial, nil
			}
		}
	}
	hint := "\"rubus device list\" lists names and serials"
	if strings.Trim(strings.ToLower(arg), "0123456789abcdef") == "" {
		hint = perr.Error()
	}
	e := fmt.Errorf("there is no device %q", arg)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e = fmt.Errorf("a device %q cannot be looked for:\n%w", arg, err)
	}
	return device.Serial{}, ui.Hint(e, hint)
}

// ImageText is what a board runs and what it could run.
func ImageText(b control.Board) string {
	switch {
	case b.Running.IsZero():
		return b.Image.String()
	case b.Available.IsZero():
		return b.Running.String()
	}
	return fmt.Sprintf("%s (%s available)", b.Running, b.Available)
}

// QuotaText is what a board has of its quota.
func QuotaText(q *control.Quota) string {
	if q == nil {
		return ""
	}
	var parts []string
	if q.LimitBytes > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s", ui.Bytes(q.UsedBytes), ui.Bytes(q.LimitBytes)))
	}
	if q.LimitFiles > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s", q.UsedFiles, ui.Count(q.LimitFiles, "file")))
	}
	text := strings.Join(parts, ", ")
	switch {
	case q.Counting:
		text += ", being counted"
	case q.Way == "kernel":
		text += " (project quota)"
	}
	if q.Full {
		text += ": used up"
	}
	return text
}

// BootText is what is not as usual about a board's boot; "" when nothing is.
func BootText(b control.Board) string {
	switch {
	case b.Boot.LastGood:
		return "it got the boot files of its last good boot: " + b.Boot.Why
	case b.Boot.Failures > 0:
		return fmt.Sprintf("%s in a row not reported as good with its present boot files; see \"rubus device log %s\"",
			ui.Count(int64(b.Boot.Failures), "boot"), b.Serial)
	}
	return ""
}

// MoveText is how far a board's rebase is, or what came of it; "" when it has none.
func MoveText(m *control.Move) string {
	if m == nil {
		return ""
	}
	text := map[string]string{
		"pending": fmt.Sprintf("it moves to %s when it boots next", m.To),
		"trial":   fmt.Sprintf("it boots %s, which was not good yet; it had %s", m.To, m.From),
		"good":    fmt.Sprintf("it moved from %s to %s, where its boot was good", m.From, m.To),
		"moved":   fmt.Sprintf("it moved from %s to %s, which does not report its boots", m.From, m.To),
		"back":    fmt.Sprintf("it went back from %s to %s", m.To, m.From),
		"failed":  fmt.Sprintf("it was not moved from %s to %s", m.From, m.To),
		"undoing": fmt.Sprintf("it goes back from %s to %s when it boots next", m.To, m.From),
		"undone":  fmt.Sprintf("its rebase from %s to %s was undone", m.From, m.To),
	}[m.State]
	if text == "" {
		text = fmt.Sprintf("its rebase to %s is %q", m.To, m.State)
	}
	if !m.Overdue.IsZero() { // why is in the batch
		return fmt.Sprintf("it is on trial of %s since %s, without a good boot", m.To, m.Since.Local().Format("2006-01-02 15:04"))
	}
	if m.Failures > 0 && m.State == "trial" {
		text += "; " + ui.Count(int64(m.Failures), "boot") + " failed"
	}
	if m.Why != "" {
		text += ": " + m.Why
	}
	if m.Snapshot != 0 {
		text += fmt.Sprintf(" (snapshot %d)", m.Snapshot)
	}
	return text
}

// isNews says that the status has to say how a rebase stands.
func isNews(m *control.Move) bool {
	return m != nil && !slices.Contains([]string{"good", "moved", "undone"}, m.State)
}

// Remarks are what the status says of a board beside its line.
func Remarks(b control.Board) (out []string) {
	move := ""
	if isNews(b.Move) {
		move = MoveText(b.Move)
	}
	full := ""
	if b.Quota != nil && b.Quota.Full {
		full = "quota: " + QuotaText(b.Quota)
	}
	for _, s := range []string{b.Problem, BootText(b), full, move, b.Refusal} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

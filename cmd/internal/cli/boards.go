package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

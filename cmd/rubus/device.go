package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
)

func newDeviceCmd(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "device",
		Short: "See and change single boards",
		Long: `See and change single boards. SERIAL is 8 or 16 hex digits, as the board's
/proc/device-tree/serial-number says, or the board's name in devices.yaml.`,
	}
	c.AddCommand(
		newDeviceListCmd(g), newDeviceShowCmd(g), newDeviceDiffCmd(g),
		newDeviceSnapshotCmd(g), newDeviceSnapshotsCmd(g), newDeviceRestoreCmd(g),
		newDeviceCommitCmd(g, false), newDeviceCommitCmd(g, true), newDeviceReplaceCmd(g), newDeviceRebaseCmd(g), newDeviceLogCmd(g),
		newDeviceStopCmd(g), newDeviceResetCmd(g),
		newDeviceAddCmd(g), newDeviceRemoveCmd(g),
		newDeviceEnableCmd(g, true), newDeviceEnableCmd(g, false), newDeviceSetCmd(g),
	)
	return c
}

// oneBoard wants the one argument SERIAL.
func oneBoard(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%q needs one SERIAL, not %d arguments", c.CommandPath(), len(args))
	}
	return nil
}

// serialOf is the board that an argument names: by serial, or by name in
// devices.yaml or, when that cannot be read, as the daemon knows it.
func (g *globals) serialOf(ctx context.Context, arg string) (device.Serial, error) {
	serial, perr := device.ParseSerial(arg)
	if perr == nil {
		return serial, nil
	}
	s, err := g.loadConfig()
	if err == nil {
		for _, d := range s.Devices() {
			if strings.EqualFold(d.Name, arg) {
				return d.Serial, nil
			}
		}
	} else if boards, derr := g.daemon().Boards(ctx); derr == nil {
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

// completeDevices offers the serials of devices.yaml, each with its name.
func (g *globals) completeDevices(_ *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := config.Load(config.Paths{Devices: g.DevicesFile})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, d := range s.Devices() {
		switch serial := d.Serial.String(); {
		case strings.HasPrefix(serial, strings.ToLower(begin)):
			out = append(out, cobra.CompletionWithDesc(serial, dash(d.Name)))
		case begin != "" && strings.HasPrefix(d.Name, begin):
			out = append(out, cobra.CompletionWithDesc(d.Name, serial))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// joinWords is "a", "a and b", "a, b and c".
func joinWords(w []string) string {
	if len(w) < 2 {
		return strings.Join(w, "")
	}
	return strings.Join(w[:len(w)-1], ", ") + " and " + w[len(w)-1]
}

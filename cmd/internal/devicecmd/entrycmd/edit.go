package entrycmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
	"rubus/config/edit"
)

// NewAdd is "rubus device add".
func NewAdd(g *cli.Globals) *cobra.Command {
	var name, image, mac, address, overlay string
	var groups []string
	c := &cobra.Command{
		Use:   "add SERIAL",
		Short: "Add a device to devices.yaml",
		Long: `Add a device at the end of devices.yaml; all else in the file stays as it is.
The board can boot at once. "rubus status" lists the boards that asked to boot
and are not in the file; the shell completes their serials.`,
		Example: `  rubus device add 5b154510 --name bench-01 --image lab
  rubus device add 100000009ffefdef --group room1 --group pi4`,
		Args:              cli.WantArgs,
		ValidArgsFunction: completeUnknown(g),
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := device.ParseSerial(args[0])
			if err != nil {
				return ui.Usage(err, "\"cat /proc/device-tree/serial-number\" on the board shows it, and \"rubus status\" when it asks to boot")
			}
			settings := []edit.Setting{}
			for _, s := range []edit.Setting{
				{Key: "name", Value: name},
				{Key: "group", Value: strings.Join(groups, ",")},
				{Key: "mac", Value: mac},
				{Key: "address", Value: address},
				{Key: "image", Value: image},
				{Key: "overlay", Value: overlay},
			} {
				if s.Value != "" {
					settings = append(settings, s)
				}
			}
			return Edit(c.Context(), g, "added device "+serial.String(), edit.AddDevice(serial, settings...), false)
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "a `name` for people")
	f.StringVar(&image, "image", "", "what it boots: `NAME` or NAME@VERSION")
	f.StringSliceVar(&groups, "group", nil, "a `group` it is in; may be said again")
	f.StringVar(&mac, "mac", "", "the only `MAC` it may have")
	f.StringVar(&address, "address", "", "its IPv4 `address`, needed beyond a router")
	f.StringVar(&overlay, "overlay", "", "`persistent|ephemeral`")
	_ = c.RegisterFlagCompletionFunc("image", g.CompleteRefs)
	_ = c.RegisterFlagCompletionFunc("overlay", cobra.FixedCompletions([]string{"persistent", "ephemeral"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// completeUnknown offers the serials of boards that asked to boot and have no
// device, each with what is known of it.
func completeUnknown(g *cli.Globals) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if len(args) > 0 {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(c.Context(), time.Second)
		defer cancel()
		st, err := g.Daemon().Status(ctx)
		if err != nil {
			return nil, none
		}
		var out []string
		for _, u := range st.Unknown {
			if serial := u.Serial.String(); serial != "" && strings.HasPrefix(serial, strings.ToLower(begin)) {
				what := u.MAC.String()
				if u.Model != "" {
					what = u.Model + ", " + what
				}
				out = append(out, cobra.CompletionWithDesc(serial, what))
			}
		}
		return out, none
	}
}

// NewRemove is "rubus device remove".
func NewRemove(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "remove SERIAL",
		Short: "Remove a device from devices.yaml",
		Long: `Remove a device from devices.yaml. Its board gets no new boot; while it runs it
keeps its root. Its writes are kept: "rubus device reset" takes them away.`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			return Edit(c.Context(), g, "removed device "+serial.String(), edit.RemoveDevice(serial), true)
		},
	}
}

// NewEnable is "rubus device enable", or when on is false "disable".
func NewEnable(g *cli.Globals, on bool) *cobra.Command {
	c := &cobra.Command{
		Use:               "enable SERIAL",
		Short:             "Let a board boot again",
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
	}
	did := "enabled device "
	if !on {
		c.Use, c.Short, did = "disable SERIAL", "Give a board no new boot", "disabled device "
		c.Long = "Give a board no new boot. While it runs it keeps its root; \"rubus device stop\"\ncuts it off."
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		serial, err := g.SerialOf(c.Context(), args[0])
		if err != nil {
			return err
		}
		return Edit(c.Context(), g, did+serial.String(), edit.EnableDevice(serial, on), false)
	}
	return c
}

// NewSet is "rubus device set".
func NewSet(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "set SERIAL KEY=VALUE...",
		Short: "Change keys of a device in devices.yaml",
		Long: `Change keys of a device in devices.yaml: name, group, mac, address, image,
overlay, enabled, sync, quota, cmdline, config. KEY= takes a key away. The lists
group, cmdline and config may be said several times. A quota holds at once, all
else from the next boot.`,
		Example: `  rubus device set bench-01 image=lab@4 overlay=ephemeral
  rubus device set bench-01 group=room1,pi4 config=dtparam=audio=off
  rubus device set bench-01 address=`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fmt.Errorf("%q needs a SERIAL and at least one KEY=VALUE", c.CommandPath())
			}
			for _, a := range args[1:] {
				if !strings.Contains(a, "=") {
					return fmt.Errorf("%q is no KEY=VALUE", a)
				}
			}
			return nil
		},
		ValidArgsFunction: completeSettings(g),
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			var settings []edit.Setting
			for _, a := range args[1:] {
				k, v, _ := strings.Cut(a, "=")
				settings = append(settings, edit.Setting{Key: k, Value: v})
			}
			return Edit(c.Context(), g, "changed device "+serial.String(), edit.SetDevice(serial, settings...), false)
		},
	}
}

// completeSettings offers serials, then KEY=.
func completeSettings(g *cli.Globals) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return g.CompleteDevices(c, args, begin)
		}
		if v, ok := strings.CutPrefix(begin, "image="); ok {
			refs, d := g.CompleteRefs(c, args, v)
			for i := range refs {
				refs[i] = "image=" + refs[i]
			}
			return refs, d
		}
		var out []string
		for _, k := range []string{
			"name=", "group=", "mac=", "address=", "image=", "overlay=persistent", "overlay=ephemeral",
			"enabled=true", "enabled=false", "sync=true", "sync=false", "quota=", "cmdline=", "config=",
		} {
			if strings.HasPrefix(k, begin) {
				out = append(out, k)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// edited is what verbs that write devices.yaml print with --json.
type edited struct {
	File    string `json:"file"`
	Changed bool   `json:"changed"`
	// Line is the first that changed; Diff are the lines as people are shown them.
	Line    int      `json:"line,omitempty"`
	Diff    []string `json:"diff,omitempty"`
	Warning string   `json:"warning,omitempty"`
}

// Edit changes devices.yaml, shows the lines that changed and makes the
// daemon read them. drops says that the edit takes a device away: then the
// daemon is told that this is meant, if the file was in force before.
func Edit(ctx context.Context, g *cli.Globals, did string, change edit.Change, drops bool) error {
	yes := false
	if drops {
		st, err := g.Daemon().Status(ctx)
		yes = err == nil && st.Refused == ""
	}
	var before, after []byte
	written, err := edit.File(ctx, g.DevicesFile, func(name string, data []byte) ([]byte, error) {
		out, err := change(name, data)
		before, after = data, out
		return out, err
	})
	if err != nil {
		return err
	}
	out := edited{File: g.DevicesFile, Changed: written}
	if !written {
		g.Notef("%s says so already", g.DevicesFile)
		return g.Answer(out)
	}
	line, diff := lineDiff(before, after)
	out.Line, out.Diff = line, diff
	g.Notef("%s (%s:%d)", did, g.DevicesFile, line)
	for _, l := range diff {
		fmt.Fprintln(g.Stderr, l)
	}
	g.Did(ctx, "edit", did)
	// The daemon notices by itself; asked, it has done so when this verb ends.
	_, err = g.Daemon().Reload(ctx, yes)
	switch {
	case err == nil, control.IsKind(err, control.KindNotRunning):
	default:
		out.Warning = fmt.Sprintf("the daemon was asked to read the file: %v", err)
		g.Notef("warning: %s", out.Warning)
	}
	return g.Answer(out)
}

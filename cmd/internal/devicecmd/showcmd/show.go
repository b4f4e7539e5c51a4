package showcmd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
	"rubus/images/imageref"
)

// deviceInfo is a device as --json prints it.
type deviceInfo struct {
	Serial  device.Serial  `json:"serial"`
	Name    string         `json:"name,omitempty"`
	Groups  []string       `json:"group,omitempty"`
	MAC     device.MAC     `json:"mac,omitzero"`
	Address netip.Addr     `json:"address,omitzero"`
	Image   imageref.Ref   `json:"image"`
	Overlay config.Overlay `json:"overlay"`
	Enabled bool           `json:"enabled"`
	Sync    bool           `json:"sync"`
	Quota   *config.Quota  `json:"quota,omitempty"`
	Cmdline []string       `json:"cmdline,omitempty"`
	Config  []string       `json:"config,omitempty"`
	// What it says of the board's identity.
	Hostname       string              `json:"hostname,omitempty"`
	MachineID      string              `json:"machine_id,omitempty"`
	HostKeys       []string            `json:"ssh_host_keys,omitempty"`
	AuthorizedKeys map[string][]string `json:"authorized_keys,omitempty"`
	Files          []fileInfo          `json:"files,omitempty"`
	Vars           map[string]string   `json:"vars,omitempty"`
	// Sources says where each value comes from, by key; one element for each
	// of a list.
	Sources map[string][]config.Source `json:"sources,omitempty"`
}

func infoOf(d *config.Device) deviceInfo {
	i := deviceInfo{
		Serial: d.Serial, Name: d.Name, Groups: d.Groups, MAC: d.MAC, Address: d.Address, Image: d.Image,
		Overlay: d.Overlay, Enabled: d.Enabled, Sync: d.Sync, Cmdline: d.Cmdline, Config: d.Config,
	}
	if d.Quota != (config.Quota{}) {
		i.Quota = &d.Quota
	}
	i.addIdentity(d)
	return i
}

// value is a key with its values.
type value struct {
	key    string
	values []string
}

// values are the keys of a device with their values as text, in the order in
// which people look at them; those without a value are left out.
func (d deviceInfo) values() []value {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	address := ""
	if d.Address.IsValid() {
		address = d.Address.String()
	}
	quota := ""
	if d.Quota != nil {
		quota = d.Quota.String()
	}
	return append([]value{
		{"serial", one(d.Serial.String())},
		{"name", one(d.Name)},
		{"group", d.Groups},
		{"mac", one(d.MAC.String())},
		{"address", one(address)},
		{"image", one(d.Image.String())},
		{"overlay", one(string(d.Overlay))},
		{"enabled", one(fmt.Sprint(d.Enabled))},
		{"sync", one(fmt.Sprint(d.Sync))},
		{"quota", one(quota)},
		{"cmdline", d.Cmdline},
		{"config", d.Config},
	}, d.identityValues()...)
}

// NewList is "rubus device list".
func NewList(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the devices of devices.yaml; needs no daemon",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := g.LoadConfig()
			if err != nil {
				return err
			}
			infos := []deviceInfo{}
			var rows [][]string
			for _, d := range s.Devices() {
				infos = append(infos, infoOf(d))
				overlay := string(d.Overlay)
				if !d.Enabled {
					overlay = "disabled"
				}
				address := ""
				if d.Address.IsValid() {
					address = d.Address.String()
				}
				rows = append(rows, []string{d.Serial.String(), ui.Dash(d.Name), d.Image.String(), overlay, ui.Dash(address), ui.Dash(strings.Join(d.Groups, ","))})
			}
			if g.JSON {
				return g.PrintJSON(infos)
			}
			if len(rows) == 0 {
				g.Notef("%s has no device yet: \"rubus device add SERIAL\" adds one", g.DevicesFile)
				return nil
			}
			ui.Table(g.Stdout, []string{"BOARD", "NAME", "IMAGE", "OVERLAY", "ADDRESS", "GROUPS"}, rows, 5, 1, 2)
			return nil
		},
	}
}

// NewShow is "rubus device show".
func NewShow(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show SERIAL",
		Short: "Show a device, where its values come from, and its board",
		Long: `Show a device as groups and defaults make it, with the line of devices.yaml
that each value comes from; when the daemon is running also what the board does.`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			return deviceShow(c.Context(), g, args[0])
		},
	}
}

func deviceShow(ctx context.Context, g *cli.Globals, arg string) error {
	serial, err := g.SerialOf(ctx, arg)
	if err != nil {
		return err
	}
	s, err := g.LoadConfig()
	if err != nil {
		return err
	}
	var info *deviceInfo
	d := s.BySerial(serial)
	if d != nil {
		i := infoOf(d)
		i.Sources = map[string][]config.Source{}
		for _, v := range i.values() {
			if src := d.Sources(v.key); len(src) > 0 {
				i.Sources[v.key] = src
			}
		}
		info = &i
	}
	var board *control.Board
	b, err := g.Daemon().Board(ctx, serial)
	ce, isControl := errors.AsType[*control.Error](err)
	switch {
	case err == nil:
		board = &b
	case isControl && (ce.Kind == control.KindNotRunning || ce.Kind == control.KindNotFound):
	default:
		g.Notef("warning: what the board does is not shown: %v", err)
	}
	own, err := identityInfoOf(g, serial)
	if err != nil {
		return err
	}
	if info == nil && board == nil {
		return ui.Hint(fmt.Errorf("there is no device %s", serial),
			"\"rubus device list\" lists the devices", fmt.Sprintf("\"rubus device add %s\" adds this one", serial))
	}
	if g.JSON {
		return g.PrintJSON(struct {
			Device   *deviceInfo    `json:"device"`
			Board    *control.Board `json:"board"`
			Identity *identityInfo  `json:"identity"`
		}{info, board, own})
	}
	if info != nil {
		printDevice(g, *info)
	} else {
		g.Notef("board %s is not in %s", serial, g.DevicesFile)
	}
	if board != nil {
		printBoard(g, board, time.Now())
	}
	if own != nil {
		own.print(g)
	}
	return nil
}

func printDevice(g *cli.Globals, d deviceInfo) {
	var rows [][]string
	for _, v := range d.values() {
		for i, text := range v.values {
			key, src := v.key, ""
			if i > 0 {
				key = ""
			}
			if all := d.Sources[v.key]; i < len(all) {
				src = all[i].String()
			}
			rows = append(rows, []string{key, text, src})
		}
	}
	ui.Table(g.Stdout, []string{"KEY", "VALUE", "FROM"}, rows, 1, 2)
}

func printBoard(g *cli.Globals, b *control.Board, now time.Time) {
	rows := [][]string{
		{"phase", b.Phase},
		{"since", ui.Ago(now, b.Since)},
		{"up", b.Up},
		{"image", cli.ImageText(*b)},
		{"mac", b.MAC.String()},
	}
	if b.Address.IsValid() {
		rows = append(rows, []string{"address", b.Address.String()})
	}
	rows = append(rows, []string{"mounts", b.Path}, []string{"export", b.Export})
	if b.Calls > 0 {
		rows = append(rows, []string{"nfs", fmt.Sprintf("%s, %s read, %s written", ui.Count(int64(b.Calls), "call"), ui.Bytes(int64(b.BytesRead)), ui.Bytes(int64(b.BytesWritten)))})
	}
	rows = append(rows, []string{"quota", cli.QuotaText(b.Quota)})
	if b.RefusedCalls > 0 {
		rows = append(rows, []string{"", ui.Count(int64(b.RefusedCalls), "call") + " from a wrong address refused"})
	}
	if k := strings.Join(b.Boot.Kernels, ", "); k != "" {
		text := k
		if r := strings.Join(b.Boot.Releases, ", "); r != "" {
			text += " (" + r + ")"
		}
		rows = append(rows, []string{"kernel", text})
	}
	rows = append(rows, []string{"boot", cli.BootText(*b)}, []string{"rebase", cli.MoveText(b.Move)})
	for _, w := range b.Boot.Warnings {
		rows = append(rows, []string{"warning", w})
	}
	rows = append(rows, []string{"problem", b.Problem}, []string{"refused", b.Refusal})
	fmt.Fprintln(g.Stdout)
	for _, r := range rows {
		if r[1] != "" {
			fmt.Fprintf(g.Stdout, "%-8s %s\n", r[0], r[1])
		}
	}
	if len(b.NFS) > 0 {
		fmt.Fprintln(g.Stdout)
		printProcedures(g, b.NFS)
	}
}

// printProcedures prints what the board's NFS did since the daemon started.
func printProcedures(g *cli.Globals, all []control.Procedure) {
	var rows [][]string
	for _, p := range all {
		rows = append(rows, []string{
			p.Name, fmt.Sprint(p.Calls), fmt.Sprint(p.Errors), brief(p.Mean), brief(p.P50), brief(p.P99), brief(p.Worst),
		})
	}
	ui.Table(g.Stdout, []string{"NFS CALL", "CALLS", "ERRORS", "MEAN", "P50", "P99", "WORST"}, rows)
}

// brief is a time in two or three digits.
func brief(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		switch {
		case d >= 100*unit:
			return d.Round(unit).String()
		case d >= unit:
			return d.Round(unit / 10).String()
		}
	}
	return d.String()
}

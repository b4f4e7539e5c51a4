package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/boot/quota"
	"rubus/cmd/internal/buildinfo"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/doctor"
	"rubus/cmd/internal/ports"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
	"rubus/images"
	"rubus/overlay"
)

// doctorReport is what "rubus doctor --json" prints.
type doctorReport struct {
	OK       bool             `json:"ok"`
	Findings []doctor.Finding `json:"findings"`
	Firewall doctor.Rules     `json:"firewall"`
}

// newDoctorCmd is "rubus doctor".
func newDoctorCmd(g *cli.Globals) *cobra.Command {
	var wait time.Duration
	var rules bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this host and its network before the first Pi",
		Long: `Look at what boards will need: free ports, interfaces, a state directory that
carries overlays, the host's NFS server if nfs.backend is kernel, the firewall,
the kernel's limits, the clock, the images. Then ask the network as each kind of
Pi does, and listen: who gives out addresses, whom a board would get its files
from, and whether the switch speaks spanning tree. No lease is taken and nothing
is changed.

Each finding says what was found, why it matters and what to do. Exit code 1:
something must be mended before a board can boot. Needs root.`,
		Example: `  rubus doctor
  rubus doctor --listen 0       # this host alone
  rubus doctor --firewall       # the rules that open the ports in use`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return examine(c.Context(), g, wait, rules) },
	}
	c.Flags().DurationVar(&wait, "listen", 10*time.Second, "listen to the network for this `long`; 0: not at all")
	c.Flags().BoolVar(&rules, "firewall", false, "print the firewall rules for the ports in use and nothing else")
	return c
}

func examine(ctx context.Context, g *cli.Globals, wait time.Duration, rulesOnly bool) error {
	if wait < 0 {
		return ui.Usagef("--listen wants a time of 0 or more")
	}
	var report doctorReport
	conf, findings := examineConfig(g)
	d := config.DefaultDaemon()
	if conf != nil {
		d = conf.Daemon()
	}
	if g.State != "" {
		d.State = g.State
	}
	wanted := wantedPorts(d)
	var named []string
	for _, l := range d.Listen {
		if l.Interface != "" {
			named = append(named, l.Interface)
		}
	}
	report.Firewall = doctor.FirewallRules(slices.Concat(wanted, hostPorts(ctx, d)), named)
	if rulesOnly {
		return printRules(g, report.Firewall)
	}
	findings = append(findings, examineHost(ctx, g, d, wanted, report.Firewall)...)
	findings = append(findings, examineNFS(ctx, d)...)
	findings = append(findings, examineQuotas(d.State, conf))
	findings = append(findings, examineImages(d.State, conf)...)
	if d.DHCP.Mode == config.DHCPServer {
		var at []netip.Prefix
		for _, i := range ethernets(d.Listen) {
			at = append(at, prefixes(i.Name)...)
		}
		findings = append(findings, doctor.Range(d.DHCP.First, d.DHCP.Last, at))
	}
	if wait > 0 {
		if !g.JSON {
			g.Notef("listening to the network for %s", wait)
		}
		_, err := g.Daemon().Status(ctx)
		for _, i := range ethernets(d.Listen) {
			findings = append(findings, examineLAN(ctx, i, wait, roleOn(i.Name, d), err == nil)...)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	report.OK, report.Findings = !doctor.Failed(findings), findings
	if g.JSON {
		if err := g.PrintJSON(report); err != nil {
			return err
		}
	} else {
		printFindings(g, findings)
	}
	if !report.OK {
		return ui.ErrSilent
	}
	return nil
}

// examineConfig loads both files; conf is nil when that cannot be done.
func examineConfig(g *cli.Globals) (conf *config.Snapshot, out []doctor.Finding) {
	conf, err := config.Load(config.Paths{Daemon: g.ConfigFile, Devices: g.DevicesFile})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out = append(out, doctor.Finding{
			Check: "configuration", Level: doctor.Warning, What: err.Error(), Why: "no board is known",
			Do: "\"rubus device add SERIAL --image NAME\" makes the file",
		})
		// rubus.yaml holds without it.
		conf, err = config.Load(config.Paths{Daemon: g.ConfigFile})
		if err != nil {
			out = append(out, doctor.Finding{Check: "configuration", Level: doctor.Failure, What: err.Error(), Why: "the daemon does not take it", Do: "mend it; \"rubus check\" says the same"})
		}
	case err != nil:
		out = append(out, doctor.Finding{
			Check: "configuration", Level: doctor.Failure, What: err.Error(),
			Why: "the daemon does not take it", Do: "mend it; \"rubus check\" says the same",
		})
	default:
		out = append(out, doctor.Finding{Check: "configuration", Level: doctor.OK, What: ui.Count(int64(len(conf.Devices())), "device")})
	}
	return conf, out
}

func examineHost(ctx context.Context, g *cli.Globals, d config.Daemon, wanted []doctor.Port, rules doctor.Rules) []doctor.Finding {
	var out []doctor.Finding
	addrs := []netip.Addr{netip.IPv4Unspecified()}
	if len(d.Listen) > 0 {
		addrs = nil
	}
	for _, l := range d.Listen {
		if l.Interface != "" {
			out = append(out, doctor.Interface(l.Interface))
		}
		if at, err := ports.Addresses(l.Interface, l.Address); err == nil {
			addrs = append(addrs, at...)
		}
	}
	// A daemon that runs has the ports, and should.
	var own func(string) bool
	if _, err := g.Daemon().Status(ctx); err == nil {
		own = func(holder string) bool { return strings.HasPrefix(holder, "rubus") }
	}
	out = append(out, doctor.Ports(wanted, addrs, own)...)
	out = append(out, doctor.State(ctx, d.State, d.Reserve, overlay.Probe)...)
	out = append(out, doctor.Firewall(ctx, rules))
	out = append(out, doctor.Limits()...)
	built, err := time.Parse(time.RFC3339, buildinfo.This().Time)
	if err != nil {
		built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return append(out, doctor.Clock(time.Now(), built))
}

// quotaWay says who keeps the quotas of boards; before there is a state directory,
// what it would be made in.
func quotaWay(state string) quota.Way {
	way, err := quota.WayOf(state)
	for errors.Is(err, fs.ErrNotExist) && state != "/" {
		state = filepath.Dir(state)
		way, err = quota.WayOf(state)
	}
	return way
}

func examineQuotas(state string, conf *config.Snapshot) doctor.Finding {
	n, ours := 0, true
	if conf != nil {
		n, ours = conf.Quotas(), conf.Daemon().NFS.Backend != config.BackendKernel
	}
	return doctor.Quotas(state, n, quotaWay(state) == quota.Kernel, ours)
}

// examineImages looks at each image that devices.yaml asks for, or at all that
// have a tag.
func examineImages(state string, conf *config.Snapshot) []doctor.Finding {
	dir := filepath.Join(state, "images")
	_, err := os.Stat(dir) // a look must not make a store
	var store *images.Store
	if err == nil {
		store, err = images.Open(dir)
	}
	if err != nil {
		return []doctor.Finding{{Check: "images", Level: doctor.Warning, What: err.Error(), Why: "no board has anything to boot", Do: "rubus image import NAME SOURCE"}}
	}
	wanted := map[string]bool{}
	if conf != nil {
		for _, d := range conf.Devices() {
			wanted[d.Image.String()] = true
		}
		if u := conf.Unknown(); u.Policy == config.UnknownBoot {
			wanted[u.Device.Image.String()] = true
		}
	}
	var out []doctor.Finding
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		v, err := cli.ResolveImage(store, name)
		if err != nil {
			out = append(out, doctor.Finding{Check: "images", Level: doctor.Failure, What: err.Error(), Why: "devices.yaml asks for it", Do: "rubus image import " + strings.Split(name, "@")[0] + " SOURCE"})
			continue
		}
		dir := v.Boot
		if dir == "" {
			dir = "boot/firmware"
		}
		out = append(out, doctor.Image(v.Ref.String(), store.Files(v), dir)...)
	}
	if len(out) == 0 {
		out = append(out, doctor.Finding{Check: "images", Level: doctor.Note, What: "devices.yaml asks for no image", Why: "no board has anything to boot", Do: "rubus image import NAME SOURCE"})
	}
	return out
}

// ethernets are the interfaces to ask on: those that are named or have a named
// address, or all Ethernet ones that are up.
func ethernets(listen []config.Listen) []net.Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(i net.Interface) bool {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagBroadcast == 0 || len(i.HardwareAddr) != 6 {
			return true
		}
		at, err := ports.Addresses(i.Name, netip.Addr{})
		if err != nil {
			return true
		}
		return len(listen) > 0 && !slices.ContainsFunc(listen, func(l config.Listen) bool {
			return l.Interface == i.Name || (l.Address.IsValid() && slices.Contains(at, l.Address))
		})
	})
}

// prefixes are the IPv4 addresses of an interface with their networks.
func prefixes(iface string) []netip.Prefix {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			out = append(out, p)
		}
	}
	return out
}

// roleOn is what rubus does about addresses on an interface.
func roleOn(iface string, d config.Daemon) doctor.DHCPRole {
	here := slices.ContainsFunc(prefixes(iface), func(p netip.Prefix) bool { return p.Contains(d.DHCP.First) })
	switch {
	case d.DHCP.Mode != config.DHCPServer || !here:
		return doctor.Beside
	case d.DHCP.Force:
		return doctor.Forced
	}
	return doctor.Alone
}

// doctorSerial is that of the board that asks: no Pi has it.
const doctorSerial = "d0c70000"

// examineLAN asks on one interface as every model does, and listens.
func examineLAN(ctx context.Context, ifi net.Interface, wait time.Duration, role doctor.DHCPRole, running bool) []doctor.Finding {
	failed := func(err error) []doctor.Finding {
		return []doctor.Finding{{Check: "dhcp", Level: doctor.Warning, What: fmt.Sprintf("%s: %v", ifi.Name, err), Why: "the network could not be asked", Do: "run this as root"}}
	}
	var boards []fakepi.Board
	// One of each kind: a 400 and a CM4 do as a 4B does, a 500 and a CM5 as a 5.
	for _, model := range []string{"3b", "3b+", "4b", "5"} {
		serial, err := device.ParseSerial(doctorSerial)
		b, err2 := fakepi.NewBoard(model, serial, device.DoctorMAC())
		if err := errors.Join(err, err2); err != nil {
			return failed(err)
		}
		boards = append(boards, b)
	}
	link, err := nic.Open(ifi.Name)
	if err != nil {
		return failed(err)
	}
	defer link.Close()
	tree := make(chan []doctor.Finding, 1)
	go func() {
		f, err := doctor.SpanningTree(ctx, ifi.Name, wait)
		if err != nil {
			tree <- failed(err)
			return
		}
		tree <- []doctor.Finding{f}
	}()
	heard, err := fakepi.Survey(ctx, link, boards, wait)
	if err != nil {
		return append(failed(err), <-tree...)
	}
	own, err := ports.Addresses(ifi.Name, netip.Addr{})
	if err != nil {
		return append(failed(err), <-tree...)
	}
	return append(doctor.Survey(ifi.Name, heard, own, role, running), <-tree...)
}

func printFindings(g *cli.Globals, all []doctor.Finding) {
	for _, f := range all {
		fmt.Fprintf(g.Stdout, "%-8s %s\n", f.Level, strings.ReplaceAll(f.What, "\n", "\n         "))
		if f.Why != "" {
			fmt.Fprintf(g.Stdout, "         why: %s\n", f.Why)
		}
		if f.Do != "" {
			fmt.Fprintf(g.Stdout, "         do:  %s\n", strings.ReplaceAll(f.Do, "\n", "\n              "))
		}
	}
}

func printRules(g *cli.Globals, r doctor.Rules) error {
	if g.JSON {
		return g.PrintJSON(r)
	}
	for _, s := range []struct {
		name  string
		lines []string
	}{{"nftables", r.Nftables}, {"ufw", r.UFW}, {"firewalld", r.Firewalld}} {
		fmt.Fprintf(g.Stdout, "# %s\n%s\n", s.name, strings.Join(s.lines, "\n"))
	}
	return nil
}

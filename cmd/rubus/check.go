package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rubus/boot/quota"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/servecmd"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/schema"
	"rubus/images"
)

// checked is what "rubus check --json" prints.
type checked struct {
	Valid    bool            `json:"valid"`
	Problems config.Problems `json:"problems"`
	Warnings []string        `json:"warnings"`
	Devices  int             `json:"devices"`
	// Quotas says who keeps the boards' quotas, kernel or server; absent: none has one,
	// or nobody does.
	Quotas quota.Way `json:"quotas,omitempty"`
}

func newCheckCmd(g *cli.Globals) *cobra.Command {
	var of string
	var dhcp bool
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say all that is wrong with devices.yaml and rubus.yaml",
		Long: `Read the configuration as the daemon does and print every problem, each as
FILE:LINE: message. The exit code is 1 when there is one. Without FILE both
installed files are read, and what is wrong with this machine for them, such as
an image that is not there, is a warning; with FILE only that one is read, as a
rubus.yaml if that is its name and as a devices.yaml if not.`,
		Example: `  rubus check
  rubus check ./devices.yaml
  rubus check --schema devices > devices.schema.json
  rubus check --dhcp`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if dhcp {
				if len(args) > 0 || of != "" {
					return ui.Usagef("--dhcp stands alone")
				}
				return printElsewhere(g)
			}
			switch of {
			case "devices":
				fmt.Fprint(g.Stdout, schema.Devices())
				return nil
			case "rubus":
				fmt.Fprint(g.Stdout, schema.Daemon())
				return nil
			case "":
			default:
				return ui.Usagef("there is no schema %q: want devices or rubus", of)
			}
			p := config.Paths{Daemon: g.ConfigFile, Devices: g.DevicesFile}
			if len(args) > 0 {
				p.Devices = args[0]
				if !c.Flags().Changed("config") {
					p.Daemon = ""
				}
				if filepath.Base(args[0]) == "rubus.yaml" {
					p = config.Paths{Daemon: args[0]}
				}
			}
			return check(c.Context(), g, p, len(args) == 0)
		},
	}
	c.Flags().StringVar(&of, "schema", "", "print the JSON Schema of `devices|rubus` and nothing else")
	c.Flags().BoolVar(&dhcp, "dhcp", false, "print the lines for the site's DHCP server (dnsmasq, kea, ISC dhcpd), for \"dhcp: {mode: off}\"")
	_ = c.RegisterFlagCompletionFunc("schema", cobra.FixedCompletions([]string{"devices", "rubus"}, cobra.ShellCompDirectiveNoFileComp))
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	return c
}

// check loads the files and prints what is wrong; installed says that they are
// this machine's own, whose images can be looked for.
func check(ctx context.Context, g *cli.Globals, p config.Paths, installed bool) error {
	s, err := loadToCheck(p)
	out := checked{Problems: config.Problems{}, Warnings: []string{}}
	var unread *fs.PathError
	switch {
	case err == nil || errors.As(err, &out.Problems):
	case g.JSON && errors.As(err, &unread):
		out.Problems = config.Problems{{File: unread.Path, Message: err.Error()}}
	default:
		return err
	}
	out.Valid = err == nil
	if s != nil {
		out.Devices = len(s.Devices())
		if installed {
			out.Warnings = slices.Concat(missingImages(g, s), badReferences(s), badReservations(s), badHost(ctx, g, s))
			if s.Quotas() > 0 {
				out.Quotas = quotaWay(stateOf(g, s))
				if out.Quotas == quota.Server && s.Daemon().NFS.Backend == config.BackendKernel {
					out.Quotas = ""
					out.Warnings = append(out.Warnings, servecmd.NoQuotas)
				}
			}
		}
	}
	if g.JSON {
		if err := g.PrintJSON(out); err != nil {
			return err
		}
		if !out.Valid {
			return ui.ErrSilent
		}
		return nil
	}
	for _, p := range out.Problems {
		// As compilers do: editors jump to it.
		fmt.Fprintln(g.Stderr, p)
	}
	for _, w := range out.Warnings {
		g.Notef("warning: %s", w)
	}
	if !out.Valid {
		return fmt.Errorf("%s", ui.Count(int64(len(out.Problems)), "problem"))
	}
	if p.Devices == "" {
		fmt.Fprintf(g.Stdout, "%s: valid\n", p.Daemon)
		return nil
	}
	fmt.Fprintf(g.Stdout, "%s: valid, %s\n", p.Devices, ui.Count(int64(out.Devices), "device"))
	switch out.Quotas {
	case quota.Kernel:
		g.Notef("note: the kernel keeps the boards' quotas (project quotas)")
	case quota.Server:
		g.Notef("note: rubus itself keeps the boards' quotas; \"rubus doctor\" says how the kernel could")
	}
	return nil
}

// loadToCheck is config.Load, but a file that was asked for must be there.
func loadToCheck(p config.Paths) (*config.Snapshot, error) {
	if p.Devices != "" {
		return config.Load(p)
	}
	f, err := config.LoadFile(p.Daemon)
	if err != nil {
		return nil, err
	}
	_, err = config.ParseDaemon(f)
	return nil, err
}

// badReferences says which files of this machine boards could not be given now. Only
// root can tell.
func badReferences(s *config.Snapshot) (out []string) {
	if os.Geteuid() != 0 {
		return nil
	}
	owner := map[string]string{} // of ssh host keys
	for _, d := range s.Devices() {
		w := servecmd.WishOf(d)
		for _, key := range w.PublicHostKeys() {
			switch other, known := owner[key]; {
			case !known:
				owner[key] = d.Label()
			case other != d.Label():
				out = append(out, fmt.Sprintf("devices %s and %s have the same ssh host key in their files: no two boards may", other, d.Label()))
			}
		}
		err := w.CheckReferences()
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			// One file may be for many boards.
			if w := "a file for boards cannot be given: " + strings.TrimSpace(line); !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// badHost says why the host's NFS server cannot serve boards' roots, where it is to.
// Only root can tell.
func badHost(ctx context.Context, g *cli.Globals, s *config.Snapshot) (out []string) {
	nfs := s.Daemon().NFS
	if nfs.Backend != config.BackendKernel || os.Geteuid() != 0 {
		return nil
	}
	if err := servecmd.HostNFS(ctx, stateOf(g, s), nfs.Port); err != nil {
		out = append(out, strings.Join(append([]string{"the daemon does not start: " + err.Error()}, ui.Hints(err)...), "; "))
	}
	return out
}

func stateOf(g *cli.Globals, s *config.Snapshot) string {
	if g.State != "" {
		return g.State
	}
	return s.Daemon().State
}

// missingImages says which devices wait for an image. It looks without a word
// about why it cannot: who may not read the store can still check the files.
func missingImages(g *cli.Globals, s *config.Snapshot) []string {
	out := []string{}
	dir := filepath.Join(stateOf(g, s), "images")
	if _, err := os.Stat(dir); err != nil {
		return out
	}
	store, err := images.Open(dir)
	if err != nil {
		return out
	}
	for _, d := range s.Devices() {
		if _, err := store.Resolve(d.Image); errors.Is(err, images.ErrNotFound) {
			out = append(out, fmt.Sprintf("device %s cannot boot: %v", d.Serial, err))
		}
	}
	return out
}

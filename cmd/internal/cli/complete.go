package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/images"
)

// completeNames offers the names of images, without versions.
func (g *Globals) completeNames(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	refs, d := g.CompleteRefs(c, args, begin)
	return slices.DeleteFunc(refs, func(s string) bool { return strings.Contains(s, "@") }), d
}

// CompleteTag offers the names of images, then the versions of the one named.
func (g *Globals) CompleteTag(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return g.completeNames(c, args, begin)
	case 1:
		refs, d := g.CompleteRefs(c, args, begin)
		return slices.DeleteFunc(refs, func(s string) bool { return !strings.HasPrefix(s, args[0]+"@") }), d
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// CompleteImport offers the names of images, then files.
func (g *Globals) CompleteImport(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return g.completeNames(c, args, begin)
	case 1:
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// CompleteSerial offers devices as the value of a flag.
func (g *Globals) CompleteSerial(c *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	return g.CompleteDevices(c, nil, begin)
}

// CompleteDevices offers the serials of devices.yaml, each with its name.
func (g *Globals) CompleteDevices(_ *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
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
			out = append(out, cobra.CompletionWithDesc(serial, ui.Dash(d.Name)))
		case begin != "" && strings.HasPrefix(d.Name, begin):
			out = append(out, cobra.CompletionWithDesc(d.Name, serial))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// CompleteRefs offers the images there are.
func (g *Globals) CompleteRefs(c *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	state, err := g.StateDir()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	dir := filepath.Join(state, "images")
	if _, err := os.Stat(dir); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp // Open would make it
	}
	s, err := images.Open(dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	// Versions that can't be read are no offer.
	list, _ := s.List()
	var out []string
	for _, v := range list {
		for _, o := range []string{v.Ref.Name, v.Ref.String()} {
			if strings.HasPrefix(o, begin) && !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

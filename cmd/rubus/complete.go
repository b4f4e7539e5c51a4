package main

import (
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rubus/boot/fakepi"
)

// completeNames offers the names of images, without versions.
func (g *globals) completeNames(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	refs, d := g.completeRefs(c, args, begin)
	return slices.DeleteFunc(refs, func(s string) bool { return strings.Contains(s, "@") }), d
}

// completeTag offers the names of images, then the versions of the one named.
func (g *globals) completeTag(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return g.completeNames(c, args, begin)
	case 1:
		refs, d := g.completeRefs(c, args, begin)
		return slices.DeleteFunc(refs, func(s string) bool { return !strings.HasPrefix(s, args[0]+"@") }), d
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeImport offers the names of images, then files.
func (g *globals) completeImport(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return g.completeNames(c, args, begin)
	case 1:
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeSerial offers devices as the value of a flag.
func (g *globals) completeSerial(c *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	return g.completeDevices(c, nil, begin)
}

// completeModels offers the boards that can be played.
func completeModels(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, m := range fakepi.Models() {
		out = append(out, cobra.CompletionWithDesc(m.Name, m.Title))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeInterfaces offers the interfaces that a board can be played on.
func completeInterfaces(_ *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	var names []string
	list, _ := net.Interfaces() // none is no offer
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 && strings.HasPrefix(i.Name, begin) {
			names = append(names, i.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

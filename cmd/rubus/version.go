package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/buildinfo"
	"rubus/cmd/internal/cli"
)

func newVersionCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := buildinfo.This()
			if g.JSON {
				return g.PrintJSON(b)
			}
			fmt.Fprintf(g.Stdout, "rubus %s", b.Version)
			if b.Commit != "" {
				fmt.Fprintf(g.Stdout, " (%.12s", b.Commit)
				if b.Modified {
					fmt.Fprint(g.Stdout, ", modified")
				}
				fmt.Fprint(g.Stdout, ")")
			}
			fmt.Fprintf(g.Stdout, " %s %s\n", b.Go, b.Platform)
			return nil
		},
	}
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/backupcmd"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/devicecmd"
	"rubus/cmd/internal/imagecmd"
	"rubus/cmd/internal/servecmd"
	"rubus/cmd/internal/simulatecmd"
	"rubus/cmd/internal/ui"
)

// The groups in which "rubus --help" lists the verbs.
const (
	groupServer = "server"
	groupBoards = "boards"
)

// newRoot makes the whole tree of verbs. A new verb is one line here.
func newRoot(g *cli.Globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "rubus",
		Short: "Network boot for diskless Raspberry Pis",
		Long: `rubus boots diskless Raspberry Pis from golden images: one daemon serves
firmware, kernel and a writable root of its own to every board that
devices.yaml names.`,
		Example: `  rubus image import lab ./rootfs.tar.zst
  rubus device add 5b154510 --name bench-01 --image lab
  rubus status`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	// Help fits a terminal of 80 columns.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 80 "))
	g.AddFlags(root.PersistentFlags())
	root.SetIn(g.Stdin)
	root.SetOut(g.Stdout)
	root.SetErr(g.Stderr)
	root.AddGroup(
		&cobra.Group{ID: groupServer, Title: "The server:"},
		&cobra.Group{ID: groupBoards, Title: "Boards and images:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
		}
		root.AddCommand(cmds...)
	}
	add("", newVersionCmd(g))
	add(groupServer, servecmd.New(g), newCheckCmd(g), newReloadCmd(g), newStatusCmd(g), newLeasesCmd(g), newDfCmd(g), newDoctorCmd(g),
		backupcmd.NewBackup(g), backupcmd.NewRestore(g))
	add(groupBoards, devicecmd.New(g), imagecmd.New(g), simulatecmd.New(g), newSDCardCmd(g))
	return root
}

// execute runs one command line. Whatever fails before a verb starts is an
// error of usage.
func execute(ctx context.Context, g *cli.Globals, args []string) error {
	root := newRoot(g)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	started := false
	walk(root, func(c *cobra.Command) {
		c.SuggestionsMinimumDistance = 2
		if !c.Runnable() {
			c.Args, c.RunE = cobra.ArbitraryArgs, runGroup
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
		if c.RunE == nil {
			return
		}
		verb := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			started = true
			return verb(c, args)
		}
	})
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !started {
		return ui.Usage(err, fmt.Sprintf("see \"%s --help\"", c.CommandPath()))
	}
	return err
}

// runGroup is what a command does that only has commands below it.
func runGroup(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		c.SetOut(c.ErrOrStderr())
		_ = c.Help()
		return ui.Usagef("%q needs a command", c.CommandPath())
	}
	hint := fmt.Sprintf("see \"%s --help\"", c.CommandPath())
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		hint = fmt.Sprintf("did you mean %s?", strings.Join(quoted(s), " or "))
	}
	return ui.Usage(fmt.Errorf("there is no command \"%s %s\"", c.CommandPath(), args[0]), hint)
}

func quoted(s []string) []string {
	s = slices.Clone(s)
	for i := range s {
		s[i] = fmt.Sprintf("%q", s[i])
	}
	return s
}

func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}

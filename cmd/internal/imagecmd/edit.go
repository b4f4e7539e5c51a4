package imagecmd

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images/editor"
)

// insideVerb is what "image edit" starts itself as, in the command's namespaces.
const insideVerb = "edit-inside"

func newEditCmd(g *cli.Globals) *cobra.Command {
	var o editor.Options
	var move bool
	c := &cobra.Command{
		Use:   "edit REF [-- COMMAND [ARG]...]",
		Short: "Run a command in a version and keep what it wrote as the next one",
		Long: `Runs COMMAND, or a shell, as root in the files of a version, with the host's
network. What it writes becomes one layer on top, and with it the next version
of the image; nothing is kept when COMMAND fails, and of a shell that ended with
an error you are asked. /tmp, /run and /dev are empty
and leave no trace; what COMMAND starts ends with it. Programs for the Pi run on
a PC when qemu-user-static is installed.

Boards see nothing of it until the name means the new version: --tag, or
"rubus image tag" later. A tag that moves back undoes it.`,
		Example: `  rubus image edit pios -m "with tcpdump" -- apt-get install -y tcpdump
  rubus image edit lab@3
  rubus image tag lab lab@3`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || c.ArgsLenAtDash() < 0 && len(args) > 1 || c.ArgsLenAtDash() > 1 {
				return fmt.Errorf("%q needs a REF, and the command after \"--\"", c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: g.CompleteRefs,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			base, err := cli.ResolveImage(s, args[0])
			if err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			o.Self, o.Command, o.Import.NoTag = []string{exe, "image", insideVerb}, args[1:], !move
			o.Stdin, o.Stdout, o.Stderr = os.Stdin, os.Stdout, os.Stderr
			if g.JSON {
				o.Stdout = os.Stderr // the answer alone goes out
			}
			if o.Terminal = g.IsTerminal(os.Stdin); o.Terminal {
				o.Keep = func(code int) bool {
					return g.Confirm(fmt.Sprintf("the shell ended with exit code %d, that of its last command: keep what was written?", code), false) == nil
				}
			}
			show := &importProgress{g: g}
			o.Import.Progress = show.update
			v, rep, err := editor.Edit(c.Context(), s, base, base.Ref.Name, o)
			show.end()
			switch {
			case errors.Is(err, editor.ErrUnchanged):
				return ui.Hint(err, "there is no new version")
			case err != nil:
				return cli.ImageError(err)
			}
			g.Did(c.Context(), "image edit", v.Ref.String())
			noteUndone(g, s, base, v)
			if g.JSON {
				return g.PrintJSON(imported{Version: v, Report: rep})
			}
			for _, n := range rep.Notes {
				g.Notef("note: %s", n)
			}
			fmt.Fprintf(g.Stdout, "%s: %s over %s, %s, in %s\n", v.Ref, progress.Bytes(rep.Layer.Bytes), base.Ref,
				ui.Count(rep.Layer.Files, "file"), rep.Duration.Round(10*time.Millisecond))
			if !move {
				g.Notef("%q means the version it meant before: \"rubus image tag %s %s\" moves it", v.Ref.Name, v.Ref.Name, v.Ref)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&o.Import.Message, "message", "m", "", "what is new, as \"image list\" shows it")
	c.Flags().BoolVar(&move, "tag", false, "let the name mean the new version at once")
	return c
}

// newInsideCmd is not for people.
func newInsideCmd() *cobra.Command {
	return &cobra.Command{
		Use: insideVerb, Hidden: true, Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			os.Exit(editor.Inside()) // the command's own code
			return nil
		},
	}
}

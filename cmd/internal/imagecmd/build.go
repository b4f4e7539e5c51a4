package imagecmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images/editor"
)

func newBuildCmd(g *cli.Globals) *cobra.Command {
	var o editor.Options
	var move bool
	c := &cobra.Command{
		Use:   "build NAME FILE",
		Short: "Make the next version of an image by a list of steps",
		Long: `Makes the next version of NAME by the steps in FILE, over the version it begins
with. Each step is a layer. A step is not done again while its text, the files
it copies and all before it stay the same; what was done stays when a later one
fails, until "rubus image gc". Steps run as those of "rubus image edit" do. What
they fetch from elsewhere is fetched again with --no-cache.

  from: pios@3
  message: with tcpdump        # or -m
  steps:
    - run: apt-get update && apt-get install -y tcpdump
    - copy: {from: files, to: /etc}`,
		Example: `  rubus image build lab lab.yaml --tag`,
		Args:    cli.WantArgs,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer f.Close()
			r, err := editor.ParseRecipe(f)
			if err != nil {
				return fmt.Errorf("%q: %w", args[1], err)
			}
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			base, err := cli.ResolveImage(s, r.From)
			if err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			if o.Import.Message == "" {
				o.Import.Message = r.Message
			}
			null, err := os.Open(os.DevNull)
			if err != nil {
				return err
			}
			defer null.Close()
			o.Self, o.Import.NoTag = []string{exe, "image", insideVerb}, !move
			// The answer alone goes to standard output.
			o.Stdin, o.Stdout, o.Stderr = null, os.Stderr, os.Stderr
			show := &importProgress{g: g, rest: true}
			o.Import.Progress = show.update
			v, rep, err := editor.Build(c.Context(), s, base, args[0], filepath.Dir(args[1]), r, o, func(i int, s editor.Step, what editor.Progress) {
				show.give(what != editor.StepRan)
				how := ""
				switch what {
				case editor.StepCached:
					how = " (as before)"
				case editor.StepRan:
					return // how far it is to keep what it wrote is shown
				case editor.StepRuns:
				}
				first, _, _ := strings.Cut(strings.TrimSpace(s.String()), "\n")
				g.Notef("step %d of %d: %s%s", i+1, len(r.Steps), first, how)
			})
			show.end()
			if err != nil {
				return cli.ImageError(err)
			}
			g.Did(c.Context(), "image build", v.Ref.String())
			noteUndone(g, s, base, v)
			if g.JSON {
				return g.PrintJSON(imported{Version: v, Report: rep})
			}
			var bytes int64
			for _, l := range rep.Layers {
				bytes += l.Bytes
			}
			fmt.Fprintf(g.Stdout, "%s: %s in %s over %s, in %s\n", v.Ref, progress.Bytes(bytes), ui.Count(int64(len(rep.Layers)), "layer"), base.Ref, rep.Duration.Round(10*time.Millisecond))
			if !move {
				g.Notef("\"rubus image tag %s %s\" lets boards have it", v.Ref.Name, v.Ref)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&o.Import.Message, "message", "m", "", "what is new, as \"image list\" shows it")
	c.Flags().BoolVar(&o.Again, "no-cache", false, "do all steps again")
	c.Flags().BoolVar(&move, "tag", false, "let the name mean the new version at once")
	return c
}

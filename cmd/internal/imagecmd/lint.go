package imagecmd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images/imageref"
	"rubus/images/importer"
	"rubus/images/rules"
)

// linted is what "rubus image lint --json" prints.
type linted struct {
	Ref imageref.Ref `json:"ref"`
	rules.Plan
}

func newLintCmd(g *cli.Globals) *cobra.Command {
	var apply, move bool
	c := &cobra.Command{
		Use:   "lint REF",
		Short: "Explain what a version lacks to be netbooted by many boards",
		Long: `Shows what the rules for a version's system (Raspberry Pi OS, Debian, Ubuntu)
would change and why, and what is in the way of netbooting that no rule mends;
the exit code is 1 then. Nothing is changed, unless --apply makes the next
version with the changes in a layer of their own.`,
		Example: `  rubus image lint pios
  rubus image lint pios@3 --apply`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteRefs,
		RunE: func(c *cobra.Command, args []string) error {
			if move && !apply {
				return ui.Usage(errors.New("--tag needs --apply"))
			}
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			v, err := cli.ResolveImage(s, args[0])
			if err != nil {
				return err
			}
			plan, err := planRules(s.LayerDirs(v))
			if err != nil {
				return fmt.Errorf("image %s: %w", v.Ref, err)
			}
			if apply && plan.Changes() > 0 {
				o := importer.Options{
					Base: &v, NoTag: !move, Message: "rules over " + v.Ref.String(),
					Finish: withRules(func(*rules.Plan, error) {}),
				}
				show := &importProgress{g: g}
				o.Progress = show.update
				next, rep, err := importer.ImportStreams(c.Context(), s, v.Ref.Name, "rules over "+v.Ref.String(), "rules", nil, o)
				show.end()
				if err != nil {
					return cli.ImageError(err)
				}
				g.Did(c.Context(), "image lint", next.Ref.String())
				if g.JSON {
					return g.PrintJSON(imported{Version: next, Report: rep, Rules: &plan})
				}
				noteRules(g, &plan, nil)
				fmt.Fprintf(g.Stdout, "%s: %s over %s, %s\n", next.Ref, progress.Bytes(rep.Layer.Bytes), v.Ref, ui.Count(rep.Layer.Files, "file"))
				if !move {
					g.Notef("\"rubus image tag %s %s\" lets boards have it", next.Ref.Name, next.Ref)
				}
				return nil
			}
			if g.JSON {
				err = g.PrintJSON(linted{v.Ref, plan})
			} else {
				g.Notef("%s is %s %s: %s by %s, %s with nothing to do", v.Ref, plan.Family, plan.Release,
					ui.Count(int64(plan.Changes()), "change"), ui.Count(int64(len(plan.Effects)), "rule"), ui.Count(int64(plan.Kept), "rule"))
				showRules(g.Stdout, &plan)
			}
			if n := len(plan.Problems); err == nil && n > 0 {
				err = fmt.Errorf("%s: %s in the way of netbooting", v.Ref, ui.Count(int64(n), "problem"))
			}
			return err
		},
	}
	c.Flags().BoolVar(&apply, "apply", false, "make the next version with these changes")
	c.Flags().BoolVar(&move, "tag", false, "let the name mean the new version at once")
	return c
}

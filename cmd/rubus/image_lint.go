package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

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

func newImageLintCmd(g *globals) *cobra.Command {
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
		Args:              wantArgs,
		ValidArgsFunction: g.completeRefs,
		RunE: func(c *cobra.Command, args []string) error {
			if move && !apply {
				return ui.Usage(errors.New("--tag needs --apply"))
			}
			s, err := g.imageStore()
			if err != nil {
				return err
			}
			v, err := resolveImage(s, args[0])
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
					Finish: withRules(nil, func(*rules.Plan, error) {}),
				}
				next, rep, err := importer.ImportStreams(c.Context(), s, v.Ref.Name, "rules over "+v.Ref.String(), "rules", nil, o)
				if err != nil {
					return imageError(err)
				}
				g.did(c.Context(), "image lint", next.Ref.String())
				if g.JSON {
					return g.printJSON(imported{Version: next, Report: rep, Rules: &plan})
				}
				g.noteRules(&plan, nil)
				fmt.Fprintf(g.Stdout, "%s: %s over %s, %s\n", next.Ref, progress.Bytes(rep.Layer.Bytes), v.Ref, count(rep.Layer.Files, "file"))
				if !move {
					g.notef("\"rubus image tag %s %s\" lets boards have it", next.Ref.Name, next.Ref)
				}
				return nil
			}
			if g.JSON {
				err = g.printJSON(linted{v.Ref, plan})
			} else {
				g.notef("%s is %s %s: %s by %s, %s with nothing to do", v.Ref, plan.Family, plan.Release,
					count(int64(plan.Changes()), "change"), count(int64(len(plan.Effects)), "rule"), count(int64(plan.Kept), "rule"))
				showRules(g.Stdout, &plan)
			}
			if n := len(plan.Problems); err == nil && n > 0 {
				err = fmt.Errorf("%s: %s in the way of netbooting", v.Ref, count(int64(n), "problem"))
			}
			return err
		},
	}
	c.Flags().BoolVar(&apply, "apply", false, "make the next version with these changes")
	c.Flags().BoolVar(&move, "tag", false, "let the name mean the new version at once")
	return c
}

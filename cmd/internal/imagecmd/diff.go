package imagecmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/showdiff"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/layered"
	"rubus/images/sysdiff"
)

// imageDiff is what "rubus image diff --json" prints.
type imageDiff struct {
	Before imageref.Ref `json:"before"`
	After  imageref.Ref `json:"after"`
	*sysdiff.Report
}

func newDiffCmd(g *cli.Globals) *cobra.Command {
	var patch, files bool
	c := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Show how two versions differ: packages and files",
		Long: `Shows what became of BEFORE in AFTER: packages, configuration files that are not
as their package brought them, and all other files that were added (A), removed
(D), changed (M), renamed (R) or given other metadata alone (m). Files that came
and went with a package are counted, not listed, unless --files asks for them.`,
		Example: `  rubus image diff lab@2 lab@3
  rubus image diff pios lab --json`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteRefs,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			var versions [2]images.Version
			var views [2]*layered.View
			for i, arg := range args {
				if versions[i], err = cli.ResolveImage(s, arg); err != nil {
					return err
				}
				var dirs []string
				for _, l := range versions[i].Layers {
					dirs = append(dirs, s.LayerDir(l.Digest))
				}
				if views[i], err = layered.Open(dirs); err != nil {
					return fmt.Errorf("image %s: %w", versions[i].Ref, err)
				}
				defer views[i].Close()
			}
			before, after := versions[0].Ref, versions[1].Ref
			r, err := showdiff.Compare(c.Context(), g, views[0], views[1])
			if err != nil {
				return fmt.Errorf("comparing %s with %s: %w", after, before, err)
			}
			switch {
			case g.JSON:
				return g.PrintJSON(imageDiff{before, after, r})
			case patch:
				return showdiff.Patch(g, views[0], views[1], r, files)
			}
			g.Notef("%s against %s: %s", after, before, showdiff.Totals(r.Totals))
			showdiff.Report(g, r, files)
			return nil
		},
	}
	c.Flags().BoolVarP(&patch, "patch", "p", false, "show text files as unified diffs")
	c.Flags().BoolVar(&files, "files", false, "list the files of changed packages too")
	return c
}

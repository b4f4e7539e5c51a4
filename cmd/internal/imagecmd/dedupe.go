package imagecmd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images/share"
)

func newDedupeCmd(g *cli.Globals) *cobra.Command {
	var o share.Options
	c := &cobra.Command{
		Use:   "dedupe",
		Short: "Have files that several layers have lie on the disk once",
		Long: `Has files of the same content, of all layers, share their blocks on the disk:
what imports, edits and builds do with what they bring is done for all that is
there. It works on xfs and btrfs. Boards may run meanwhile: nothing that can be
read changes. Ctrl-C ends it; what was joined so far stays so.

What is joined counts in full in "rubus image list"; "rubus df" says how much
less it takes.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			show := g.Progress()
			defer show.End()
			verb, next := "joining", time.Time{}
			if o.DryRun {
				verb = "comparing"
			}
			o.Progress = func(e share.Event) {
				if now := time.Now(); now.After(next) || e.Files == e.Total {
					next = now.Add(100 * time.Millisecond)
					show.Update(progress.State{Phase: verb, Done: e.Bytes, Files: e.Files})
				}
			}
			rep, err := share.Run(c.Context(), s, o)
			show.End()
			if errors.Is(err, share.ErrUnsupported) {
				return ui.Hint(err, "layers that are the same are stored once everywhere; put the state directory on xfs or btrfs to have that for single files (docs/images.md)")
			}
			if rep.Files > 0 && !o.DryRun {
				g.Did(c.Context(), "image dedupe", fmt.Sprintf("bytes=%d", rep.Bytes))
			}
			if err != nil && c.Context().Err() == nil {
				return err
			}
			// What a run that was cut off did is done.
			return errors.Join(showDedupe(g, o.DryRun, rep), err)
		},
	}
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what could be joined, by the digests of the files")
	return c
}

// deduped is what --json prints. Sizes are in bytes.
type deduped struct {
	share.Report
	DryRun bool `json:"dry_run"`
}

func showDedupe(g *cli.Globals, dry bool, rep share.Report) error {
	if g.JSON {
		if err := g.PrintJSON(deduped{rep, dry}); err != nil {
			return err
		}
	} else {
		verb, back := "joined", "given back"
		if dry {
			verb, back = "would join", "to be given back"
		}
		fmt.Fprintf(g.Stdout, "%s %s, %s %s; %s lay together before\n", verb, ui.Count(rep.Files, "file"),
			progress.Bytes(rep.Bytes), back, progress.Bytes(rep.Before))
	}
	if rep.Damaged == nil {
		return nil
	}
	return ui.Hint(fmt.Errorf("files that their layers say are the same are not, so that one of each pair is damaged:\n  %s",
		strings.Join(rep.Damaged, "\n  ")), "\"rubus image verify\" says which")
}

package imagecmd

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images"
	"rubus/images/imageref"
)

func newTagCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "tag NAME VERSION",
		Short: "Say which version an image's name means",
		Long: `Makes NAME mean one of its versions. Boards that follow NAME boot it next; those
that have written to their root stay on the version they wrote over.`,
		Example: `  rubus image tag lab lab@2
  rubus image tag lab 2`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteTag,
		RunE: func(c *cobra.Command, args []string) error {
			ref, err := parseTag(args[0], args[1])
			if err != nil {
				return ui.Usage(err)
			}
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			before, err := s.Tag(c.Context(), ref.Name, ref.Version)
			if err != nil {
				return cli.ImageError(err)
			}
			if before != ref.Version {
				g.Did(c.Context(), "image tag", ref.Name, ref.String())
			}
			if g.JSON {
				return g.PrintJSON(struct {
					Name   string `json:"name"`
					Before int    `json:"before"`
					Now    int    `json:"now"`
				}{ref.Name, before, ref.Version})
			}
			switch before {
			case 0:
				fmt.Fprintf(g.Stdout, "%s is now %s\n", ref.Name, ref)
			case ref.Version:
				fmt.Fprintf(g.Stdout, "%s is %s, as before\n", ref.Name, ref)
			default:
				fmt.Fprintf(g.Stdout, "%s is now %s, it was %s\n", ref.Name, ref, ref.At(before))
			}
			return nil
		},
	}
}

// parseTag reads "lab lab@2" and "lab 2".
func parseTag(name, version string) (imageref.Ref, error) {
	n, err := imageref.Parse(name)
	if err != nil {
		return n, err
	}
	if n.Version != 0 {
		return n, fmt.Errorf("%q is a version: the tag is %q", name, n.Name)
	}
	if !strings.Contains(version, "@") {
		version = n.Name + "@" + version
	}
	v, err := imageref.Parse(version)
	if err == nil && v.Name != n.Name {
		err = fmt.Errorf("%q is a version of another image: a name means one of its own versions", version)
	}
	return v, err
}

func newRmCmd(g *cli.Globals) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "rm REF...",
		Short: "Remove versions that no board needs",
		Long: `Removes versions ("lab@2") or all versions of an image ("lab"). A version that a
board runs, has written over or boots next can't be removed, nor the one a name
means while the image has others. Disk space comes back with "rubus image gc".`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%q needs REF, one or more", c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: g.CompleteRefs,
		RunE: func(c *cobra.Command, args []string) error {
			var refs []imageref.Ref
			for _, a := range args {
				r, err := imageref.Parse(a)
				if err != nil {
					return ui.Usage(err)
				}
				refs = append(refs, r)
			}
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			if !yes {
				gone, err := s.Expand(refs...)
				if err != nil {
					return cli.ImageError(err)
				}
				for _, r := range gone {
					showGoing(g, s, r)
				}
				if err := g.Confirm(fmt.Sprintf("remove %s?", ui.Count(int64(len(gone)), "version")), false); err != nil {
					return err
				}
			}
			gone, err := s.Remove(c.Context(), refs, func() ([]images.Use, error) { return imageNeeds(g) })
			if err != nil {
				return cli.ImageError(err)
			}
			for _, r := range gone {
				g.Did(c.Context(), "image rm", r.String())
			}
			if g.JSON {
				return g.PrintJSON(struct {
					Removed []imageref.Ref `json:"removed"`
				}{gone})
			}
			for _, r := range gone {
				fmt.Fprintf(g.Stdout, "removed %s\n", r)
			}
			if rep, err := s.Garbage(c.Context(), func() ([]images.Use, error) { return imageUses(g) }); err == nil && len(rep.Removed) > 0 {
				g.Notef("\"rubus image gc\" gives %s of disk space back", progress.Bytes(rep.Bytes))
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return c
}

// showGoing shows a version that is about to be removed.
func showGoing(g *cli.Globals, s *images.Store, r imageref.Ref) {
	v, err := s.Resolve(r)
	if err != nil {
		g.Notef("%s can't be read: %v", r, err)
		return
	}
	what := fmt.Sprintf("%s: %s, made %s", r, progress.Bytes(v.Bytes()), v.Created.Local().Format(ui.TimeForm))
	if v.Message != "" {
		what += ", " + strconv.Quote(v.Message)
	}
	g.Notef("%s", what)
}

// showRemoved shows how far the removal of layers is.
func showRemoved(g *cli.Globals, s *images.Store, rep images.Report) (end func()) {
	var files, gone int64
	for _, l := range rep.Removed {
		files += l.Files
	}
	show := g.Progress()
	s.Removed = func() {
		gone++
		show.Update(progress.State{Phase: "removing", Done: gone, Total: files, Of: fmt.Sprintf("file %d of %d", gone, max(gone, files))})
	}
	return show.End
}

func newGCCmd(g *cli.Globals) *cobra.Command {
	var yes, dry bool
	c := &cobra.Command{
		Use:   "gc",
		Short: "Give back the disk space that no version needs",
		Long:  `Removes the layers that no version has and no board stands on.`,
		Args:  cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			rep, err := s.Garbage(c.Context(), func() ([]images.Use, error) { return imageUses(g) })
			if err != nil {
				return err
			}
			if !g.JSON {
				for _, l := range rep.Removed {
					g.Notef("layer %.12s: %s, %s", l.Digest, progress.Bytes(l.Bytes), ui.Count(l.Files, "file"))
				}
			}
			if !dry {
				if len(rep.Removed) > 0 {
					if err := g.Confirm(fmt.Sprintf("remove %s?", ui.Count(int64(len(rep.Removed)), "layer")), yes); err != nil {
						return err
					}
				}
				end := showRemoved(g, s, rep)
				rep, err = s.GC(c.Context(), func() ([]images.Use, error) { return imageUses(g) })
				if end(); err != nil {
					return err
				}
				g.Did(c.Context(), "image gc", fmt.Sprintf("layers=%d", len(rep.Removed)))
			}
			if g.JSON {
				return g.PrintJSON(rep)
			}
			verb := "removed"
			if dry {
				verb = "would remove"
			}
			fmt.Fprintf(g.Stdout, "%s %s, %s; %s left\n", verb, ui.Count(int64(len(rep.Removed)), "layer"),
				progress.Bytes(rep.Bytes), ui.Count(int64(rep.Kept), "layer"))
			return nil
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	c.Flags().BoolVar(&dry, "dry-run", false, "only show what would go")
	return c
}

package imagecmd

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images"
)

func newListCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List all versions of all images",
		Args:    cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			versions, broken := s.List()
			list, err := describeImages(g, s, versions)
			if err != nil {
				return err
			}
			if g.JSON {
				err = g.PrintJSON(list)
			} else {
				listImages(g, list)
			}
			if broken != nil {
				return broken
			}
			return err
		},
	}
}

func listImages(g *cli.Globals, list []imageInfo) {
	if len(list) == 0 {
		g.Notef("there are no images: \"rubus image import NAME SOURCE\" makes one")
		return
	}
	rows := [][]string{{"IMAGE", "TAG", "SIZE", "FILES", "USES", "CREATED", "MESSAGE"}}
	for _, i := range list {
		tag := ""
		if i.Tagged {
			tag = i.Ref.Name
		}
		rows = append(rows, []string{
			i.Ref.String(), tag, progress.Bytes(i.Bytes), strconv.FormatInt(i.Files, 10),
			strconv.Itoa(len(i.UsedBy)), i.Created.Local().Format(ui.TimeForm), strings.Map(ui.Printable, i.Message),
		})
	}
	ui.Table(g.Stdout, rows[0], rows[1:], 6, 0, 1)
}

func newShowCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:               "show REF",
		Short:             "Show one version of an image",
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteRefs,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			v, err := cli.ResolveImage(s, args[0])
			if err != nil {
				return err
			}
			list, err := describeImages(g, s, []images.Version{v})
			if err != nil {
				return err
			}
			if g.JSON {
				return g.PrintJSON(list[0])
			}
			showImage(g.Stdout, s, list[0])
			return nil
		},
	}
}

func showImage(w io.Writer, s *images.Store, i imageInfo) {
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-9s %s\n", key+":", strings.Map(ui.Printable, value))
		}
	}
	line("Image", i.Ref.String())
	if i.Tagged {
		line("Tag", i.Ref.Name)
	}
	line("Created", i.Created.Local().Format("2006-01-02 15:04:05 MST"))
	line("Source", i.Source)
	line("Message", i.Message)
	line("Boot", "/"+i.Boot)
	line("Size", fmt.Sprintf("%s, %s", progress.Bytes(i.Bytes), ui.Count(i.Files, "file")))
	for n, l := range i.Layers {
		key := ""
		if n == 0 {
			key = "Layers:"
		}
		fmt.Fprintf(w, "%-9s %s\n", key, l.Digest)
		fmt.Fprintf(w, "%-9s   %s, %s\n", "", progress.Bytes(l.Bytes), ui.Count(l.Files, "file"))
		fmt.Fprintf(w, "%-9s   %s\n", "", s.LayerDir(l.Digest))
	}
	line("Used by", strings.Join(i.UsedBy, ", "))
}

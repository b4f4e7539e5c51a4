package imagecmd

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"rubus/boot/record"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/images"
)

// New is "rubus image" with its verbs.
func New(g *cli.Globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Keep golden images: import, edit, compare, tag, export, remove",
		Long: `Golden images are root file systems that boards boot from. Each import makes a
new version: "lab@3" is the third version of the image "lab" and never changes,
"lab" alone is the version its tag means.`,
	}
	c.AddCommand(
		newImportCmd(g), newListCmd(g), newShowCmd(g), newTagCmd(g),
		newRmCmd(g), newGCCmd(g), newVerifyCmd(g), newDedupeCmd(g), newDiffCmd(g), newLintCmd(g), newExportCmd(g), newEditCmd(g), newBuildCmd(g), newInsideCmd(),
	)
	return c
}

// imageUses tells what boards stand on.
func imageUses(g *cli.Globals) ([]images.Use, error) {
	state, err := g.StateDir()
	if err != nil {
		return nil, err
	}
	return record.Uses(state)
}

// imageNeeds is imageUses and what the configuration asks for: what a board
// boots next may not go either. A broken file counts as its last valid form.
func imageNeeds(g *cli.Globals) ([]images.Use, error) {
	uses, err := imageUses(g)
	if err != nil {
		return nil, err
	}
	state, err := g.StateDir()
	if err != nil {
		return nil, err
	}
	c, _, err := config.LoadOrLast(config.Paths{Daemon: g.ConfigFile, Devices: g.DevicesFile}, state)
	if err != nil {
		return nil, ui.Hint(fmt.Errorf("which images the devices need cannot be told:\n%w", err), "\"rubus check\" says what to mend")
	}
	for _, d := range c.Devices() {
		uses = append(uses, images.Use{Ref: d.Image, Who: fmt.Sprintf("device %s of %q", d.Serial, g.DevicesFile)})
	}
	if u := c.Unknown(); u.Policy == config.UnknownBoot {
		uses = append(uses, images.Use{Ref: u.Device.Image, Who: fmt.Sprintf("\"unknown\" of %q", g.DevicesFile)})
	}
	return uses, nil
}

// imageInfo is a version as the verbs print it with --json.
type imageInfo struct {
	images.Version
	Tagged bool     `json:"tagged"`
	Bytes  int64    `json:"bytes"`
	Files  int64    `json:"files"`
	UsedBy []string `json:"used_by"`
}

// describeImages adds tags and users to versions.
func describeImages(g *cli.Globals, s *images.Store, versions []images.Version) ([]imageInfo, error) {
	tags, err := s.Tags()
	if err != nil {
		return nil, err
	}
	uses, err := imageUses(g)
	if err != nil {
		return nil, err
	}
	out := make([]imageInfo, 0, len(versions))
	for _, v := range versions {
		info := imageInfo{
			Version: v, Tagged: tags[v.Ref.Name] == v.Ref.Version,
			Bytes: v.Bytes(), Files: v.Files(), UsedBy: []string{},
		}
		for _, u := range uses {
			if u.Ref == v.Ref {
				info.UsedBy = append(info.UsedBy, u.Who)
			}
		}
		slices.Sort(info.UsedBy)
		out = append(out, info)
	}
	return out, nil
}

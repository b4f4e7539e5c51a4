package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rubus/boot"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/images"
	"rubus/images/imageref"
)

func newImageCmd(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Keep golden images: import, edit, compare, tag, export, remove",
		Long: `Golden images are root file systems that boards boot from. Each import makes a
new version: "lab@3" is the third version of the image "lab" and never changes,
"lab" alone is the version its tag means.`,
	}
	c.AddCommand(
		newImageImportCmd(g), newImageListCmd(g), newImageShowCmd(g), newImageTagCmd(g),
		newImageRmCmd(g), newImageGCCmd(g), newImageVerifyCmd(g), newImageDiffCmd(g), newImageLintCmd(g), newImageExportCmd(g), newImageEditCmd(g), newImageBuildCmd(g), newImageInsideCmd(),
	)
	return c
}

// imageStore opens the store of the state directory.
func (g *globals) imageStore() (*images.Store, error) {
	state, err := g.stateDir()
	if err != nil {
		return nil, err
	}
	s, err := images.Open(filepath.Join(state, "images"))
	if errors.Is(err, fs.ErrPermission) {
		return nil, ui.Hint(err, "images belong to root: try sudo")
	}
	return s, err
}

// imageUses tells what boards stand on.
func (g *globals) imageUses() ([]images.Use, error) {
	state, err := g.stateDir()
	if err != nil {
		return nil, err
	}
	return boot.Uses(state)
}

// imageNeeds is imageUses and what the configuration asks for: what a board
// boots next may not go either. A broken file counts as its last valid form.
func (g *globals) imageNeeds() ([]images.Use, error) {
	uses, err := g.imageUses()
	if err != nil {
		return nil, err
	}
	state, err := g.stateDir()
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

// imageError adds what the error of a store knows to do about it.
func imageError(err error) error {
	var h interface {
		error
		Hint() string
	}
	if errors.As(err, &h) && h.Hint() != "" {
		return ui.Hint(err, h.Hint())
	}
	return err
}

// resolveImage finds the version that an argument names.
func resolveImage(s *images.Store, arg string) (images.Version, error) {
	ref, err := imageref.Parse(arg)
	if err != nil {
		return images.Version{}, ui.Usage(err)
	}
	v, err := s.Resolve(ref)
	return v, imageError(err)
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
func (g *globals) describeImages(s *images.Store, versions []images.Version) ([]imageInfo, error) {
	tags, err := s.Tags()
	if err != nil {
		return nil, err
	}
	uses, err := g.imageUses()
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

// progressDisplay shows something long, on standard error.
func (g *globals) progressDisplay() progress.Display {
	return progress.New(g.Stderr, g.IsTerminal(g.Stderr), "rubus: ")
}

// completeRefs offers the images there are.
func (g *globals) completeRefs(c *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	state, err := g.stateDir()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	dir := filepath.Join(state, "images")
	if _, err := os.Stat(dir); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp // Open would make it
	}
	s, err := images.Open(dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	// Versions that can't be read are no offer.
	list, _ := s.List()
	var out []string
	for _, v := range list {
		for _, o := range []string{v.Ref.Name, v.Ref.String()} {
			if strings.HasPrefix(o, begin) && !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// count writes a number with its noun.
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

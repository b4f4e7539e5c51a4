package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/importer"
	"rubus/images/importer/layer"
	"rubus/images/oci"
	"rubus/images/rules"
)

func newImportCmd(g *cli.Globals) *cobra.Command {
	var base, from string
	var noRules bool
	var o importer.Options
	var platform oci.Options
	c := &cobra.Command{
		Use:   "import NAME SOURCE",
		Short: "Make the next version from a disk image, tarball or directory",
		Long: `Makes the next version of the image NAME from SOURCE, whose content tells what
it is:

  a disk image as Raspberry Pi publishes it (.img; also .xz, .gz, .zst, .zip),
  or an SD card in a reader (/dev/sda): the root file system, and in it the boot
  partition where /etc/fstab mounts it; nothing is mounted here
  a tarball (.tar, also .gz, .xz, .zst)
  a directory, on its own file system only
  an https URL of an image or tarball; "-": one on standard input
  a container image: docker://HOST/NAME:TAG, oci:DIR[:TAG] or
  docker-archive:FILE; each of its layers becomes one here, and is shared

Everything a root file system has is kept: owners, modes, devices, hard links,
attributes, holes and times. What the system needs to be netbooted by many
boards (see "rubus image lint") is put into a layer of its own on top.

Then NAME means the new version, and boards that follow it boot it next.`,
		Example: `  rubus image import pios 2026-06-18-raspios-trixie-arm64-lite.img.xz
  rubus image import lab ./rootfs
  rubus image import lab rootfs.tar.zst --message "kernel 6.12"
  ssh pi 'sudo tar -C / --one-file-system --xattrs -c . ./boot/firmware' |
    rubus image import lab -
  rubus image import lab extra.tar --base lab@3 --no-tag`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteImport,
		RunE: func(c *cobra.Command, args []string) error {
			if r, err := imageref.Parse(args[0]); err != nil {
				return ui.Usage(err)
			} else if r.Version != 0 {
				return ui.Usage(fmt.Errorf("image %q: the new version gets its number from rubus", args[0]), fmt.Sprintf("say %q", r.Name))
			}
			if err := o.Devices.Check(); err != nil {
				return ui.Usage(err)
			}
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			if base != "" {
				v, err := cli.ResolveImage(s, base)
				if err != nil {
					return err
				}
				o.Base = &v
			}
			if from != "" {
				if o.BootFiles, err = bootFrom(g, s, from); err != nil {
					return err
				}
			}
			var plan *rules.Plan
			var none error
			if !noRules {
				o.Finish = withRules(func(p *rules.Plan, err error) { plan, none = p, err })
			}
			done := func() *rules.Plan {
				noteRules(g, plan, none)
				return plan
			}
			return importImage(g, c, s, args[0], args[1], o, platform, done)
		},
	}
	c.Flags().StringVar(&base, "base", "", "stack the source on top of this `version`")
	c.Flags().StringVarP(&o.Message, "message", "m", "", "what is new, as \"image list\" shows it")
	c.Flags().StringVar(&from, "boot", "", "take boot files and kernel modules from this `version or directory`")
	c.Flags().StringVar(&platform.Platform, "platform", "", "which of a container image's, `linux/arm64`, linux/arm or linux/arm/v6")
	c.Flags().BoolVar(&platform.Insecure, "insecure-registry", false, "the registry needs no TLS")
	c.Flags().StringVar(&o.SHA256, "sha256", "", "refuse the source unless it has this SHA-256, in `hex`")
	c.Flags().IntVar(&o.Partition, "partition", 0, "the `number` of the image's partition that holds the root")
	c.Flags().StringVar((*string)(&o.Devices), "device-nodes", string(layer.DevicesKeep), "what becomes of device nodes: `keep|drop|refuse`")
	c.Flags().BoolVar(&noRules, "no-rules", false, "leave out what netbooting needs")
	c.Flags().BoolVar(&o.NoTag, "no-tag", false, "leave NAME at the version it means now")
	_ = c.RegisterFlagCompletionFunc("base", g.CompleteRefs)
	_ = c.RegisterFlagCompletionFunc("boot", func(c *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		refs, d := g.CompleteRefs(c, args, begin)
		return refs, d &^ cobra.ShellCompDirectiveNoFileComp // or a directory
	})
	_ = c.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions([]string{"linux/arm64", "linux/arm", "linux/arm/v6"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("device-nodes", cobra.FixedCompletions([]string{"keep", "drop", "refuse"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// imported is a new version as --json prints it.
type imported struct {
	images.Version
	Report importer.Report `json:"report"`
	// Rules are what was put on top; absent: nothing.
	Rules *rules.Plan `json:"rules,omitempty"`
}

func importImage(g *cli.Globals, c *cobra.Command, s *images.Store, name, source string, o importer.Options, p oci.Options, ruled func() *rules.Plan) error {
	o.Stdin, o.Reserve = g.Stdin, g.Reserve()
	show := &importProgress{g: g}
	o.Progress = show.update
	v, rep, err := importAny(c.Context(), s, name, source, o, p)
	show.end()
	if errors.Is(err, importer.ErrNoSpace) {
		return ui.Hint(err, `"rubus image gc" removes what no version needs`)
	}
	if err != nil {
		return cli.ImageError(err)
	}
	g.Did(c.Context(), "image import", v.Ref.String())
	plan := ruled()
	if plan == nil {
		wireless, vpn := secretsIn(s.LayerDirs(v))
		for _, p := range wireless {
			rep.Notes = append(rep.Notes, p+" holds a Wi-Fi password, and each board has it")
		}
		for _, p := range vpn {
			rep.Notes = append(rep.Notes, p+" holds a key of a VPN, and each board has it")
		}
	}
	if g.JSON {
		return g.PrintJSON(imported{v, rep, plan})
	}
	for _, n := range rep.Notes {
		g.Notef("note: %s", ui.Visible(n))
	}
	how := "new layer"
	if rep.Shared {
		how = "same as layer"
	}
	if len(rep.Layers) > 1 {
		var bytes, files int64
		for _, l := range rep.Layers {
			bytes, files = bytes+l.Bytes, files+l.Files
		}
		fmt.Fprintf(g.Stdout, "%s: %s, %s in %s, in %s\n", v.Ref, progress.Bytes(bytes), ui.Count(files, "file"),
			ui.Count(int64(len(rep.Layers)), "layer"), rep.Duration.Round(10*time.Millisecond))
	} else {
		fmt.Fprintf(g.Stdout, "%s: %s, %s, %s %.12s, in %s\n", v.Ref, progress.Bytes(rep.Layer.Bytes),
			ui.Count(rep.Layer.Files, "file"), how, rep.Layer.Digest, rep.Duration.Round(10*time.Millisecond))
	}
	if o.NoTag {
		g.Notef("%q means the version it meant before: \"rubus image tag %s %s\" moves it", name, name, v.Ref)
	}
	return nil
}

// importAny imports whatever the source is.
func importAny(ctx context.Context, s *images.Store, name, source string, o importer.Options, p oci.Options) (images.Version, importer.Report, error) {
	if o.SHA256 != "" || !oci.Is(source) {
		return importer.Import(ctx, s, name, source, o)
	}
	img, err := oci.Open(ctx, source, p)
	if err != nil {
		return images.Version{}, importer.Report{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return images.Version{}, importer.Report{}, err
	}
	return importer.ImportStreams(ctx, s, name, source, "container image", layers, o)
}

// bootFrom gives what takes boot files from a version or a directory.
func bootFrom(g *cli.Globals, s *images.Store, from string) (func(context.Context, *importer.Top) error, error) {
	dirs := []string{from}
	if st, err := os.Stat(from); err != nil || !st.IsDir() {
		v, err := cli.ResolveImage(s, from)
		if err != nil {
			return nil, err
		}
		dirs = s.LayerDirs(v)
	}
	return func(ctx context.Context, top *importer.Top) error { return top.BootFrom(ctx, dirs) }, nil
}

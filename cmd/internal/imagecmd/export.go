package imagecmd

import (
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images/oci"
)

// hostKeys counts the private ssh host keys in layers, hidden ones too: a card's image has those of the
// machine it was in.
func hostKeys(dirs []string) int {
	n := 0
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		keys, _ := fs.Glob(root.FS(), "etc/ssh/ssh_host_*_key") // a bad pattern alone is an error
		for _, key := range keys {
			if st, err := root.Lstat(key); err == nil && st.Mode().IsRegular() {
				n++
			}
		}
		root.Close()
	}
	return n
}

// hiddenSecrets counts the files with passwords of wireless networks, and with keys of VPNs, in
// layers, those that boards do not see, too.
func hiddenSecrets(dirs []string) (wireless, vpn int) {
	for _, dir := range dirs {
		w, v := secretsIn([]string{dir})
		wireless, vpn = wireless+len(w), vpn+len(v)
	}
	return wireless, vpn
}

func newExportCmd(g *cli.Globals) *cobra.Command {
	var o oci.Options
	var yes bool
	c := &cobra.Command{
		Use:   "export REF TARGET",
		Short: "Write a version as a container image",
		Long: `Writes a version as an image of the OCI specification, a layer for each of its
own, to a registry (docker://HOST/NAME:TAG, with the credentials of "docker
login"), a new directory (oci:DIR) or an archive for "docker load"
(docker-archive:FILE; one that is there is replaced when you say so). The target
is there as a whole or not at all. The same version gives the same bytes;
imported again it has the same layers.`,
		Example: `  rubus image export lab@3 docker://registry.example.com/pis/lab:3
  rubus image export lab docker-archive:lab.tar`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteRefs,
		RunE: func(c *cobra.Command, args []string) error {
			if !oci.Is(args[1]) {
				return ui.Usage(fmt.Errorf("target %q is none of docker://…, oci:… and docker-archive:…", args[1]))
			}
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			v, err := cli.ResolveImage(s, args[0])
			if err != nil {
				return err
			}
			if oci.Replaces(args[1]) {
				if err := g.Confirm(fmt.Sprintf("replace %q by %s?", args[1], v.Ref), yes); err != nil {
					return err
				}
				o.Replace = true
			}
			if n := hostKeys(s.LayerDirs(v)); n > 0 {
				g.Notef("note: the layers hold %s: who gets the image has them, also where boards do not see them", ui.Count(int64(n), "private ssh host key"))
			}
			wireless, vpn := hiddenSecrets(s.LayerDirs(v))
			if wireless > 0 {
				g.Notef("note: the layers hold Wi-Fi passwords, in %s: who gets the image has them, also where boards do not see them", ui.Count(int64(wireless), "file"))
			}
			if vpn > 0 {
				g.Notef("note: the layers hold VPN keys, in %s: who gets the image has them", ui.Count(int64(vpn), "file"))
			}
			show := g.Progress()
			var mu sync.Mutex
			state := progress.State{Phase: "packing", Total: v.Bytes()}
			e, err := oci.Export(c.Context(), s, v, args[1], o, func(n int64) {
				mu.Lock()
				defer mu.Unlock()
				state.Done += n
				show.Update(state)
			})
			show.End()
			if err != nil {
				return cli.ImageError(err)
			}
			if g.JSON {
				return g.PrintJSON(e)
			}
			fmt.Fprintf(g.Stdout, "%s: %s, %s, %s for %s\n", v.Ref, e.Digest, ui.Count(int64(e.Layers), "layer"), progress.Bytes(e.Bytes), e.Platform)
			return nil
		},
	}
	c.Flags().StringVar(&o.Platform, "platform", "", "what to say the image is for, `linux/arm64` or linux/arm")
	c.Flags().BoolVar(&o.Insecure, "insecure-registry", false, "the registry needs no TLS")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "replace an archive that is there without asking")
	return c
}

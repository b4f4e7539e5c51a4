package imagecmd

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images"
)

func newVerifyCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [REF...]",
		Short: "Read images and compare them with their digests",
		Long: `Reads every file of the versions named, or of all, and compares it with the
digest that the layer was named by. Exit code 1 when something differs.`,
		ValidArgsFunction: g.CompleteRefs,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			layers, err := layersOf(s, args)
			if err != nil {
				return err
			}
			return verifyLayers(g, c, s, layers)
		},
	}
}

// layersOf gives every layer of the versions named, once; all for none.
func layersOf(s *images.Store, args []string) ([]images.Layer, error) {
	var versions []images.Version
	var err error
	for _, a := range args {
		v, err := cli.ResolveImage(s, a)
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	if len(args) == 0 {
		if versions, err = s.List(); err != nil {
			return nil, err
		}
	}
	var out []images.Layer
	seen := make(map[string]bool)
	for _, v := range versions {
		for _, l := range v.Layers {
			if !seen[l.Digest] {
				seen[l.Digest] = true
				out = append(out, l)
			}
		}
	}
	return out, nil
}

// verifyResult is one layer as --json prints it.
type verifyResult struct {
	images.Layer
	OK          bool     `json:"ok"`
	Differences []string `json:"differences,omitempty"`
}

func verifyLayers(g *cli.Globals, c *cobra.Command, s *images.Store, layers []images.Layer) error {
	show := g.Progress()
	defer show.End()
	p := newVerifyProgress(show, layers)
	results := []verifyResult{}
	var errs []error
	for _, l := range layers {
		r := verifyResult{Layer: l}
		err := s.Verify(c.Context(), l.Digest, p.add)
		var damaged *images.DamagedError
		switch {
		case err == nil:
			r.OK = true
		case errors.As(err, &damaged):
			for _, d := range damaged.Differences {
				r.Differences = append(r.Differences, d.String())
			}
			errs = append(errs, err)
		default:
			show.End()
			return err
		}
		results = append(results, r)
	}
	show.End()
	if g.JSON {
		if err := g.PrintJSON(results); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			word := "ok"
			if !r.OK {
				word = "DAMAGED"
			}
			fmt.Fprintf(g.Stdout, "layer %.12s: %s\n", r.Digest, word)
			for _, d := range r.Differences {
				fmt.Fprintf(g.Stdout, "  %s\n", d)
			}
		}
	}
	return ui.Hint(errors.Join(errs...), "import the image again: its boards move to the new version when they are reset")
}

// verifyProgress adds up what the readers of layers tell.
type verifyProgress struct {
	mu    sync.Mutex
	show  progress.Display
	state progress.State
	next  time.Time
}

func newVerifyProgress(show progress.Display, layers []images.Layer) *verifyProgress {
	p := &verifyProgress{show: show, state: progress.State{Phase: "verifying"}}
	for _, l := range layers {
		p.state.Total += l.Bytes
	}
	return p
}

// add may be called from several goroutines.
func (p *verifyProgress) add(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Done += bytes
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(100 * time.Millisecond)
		p.show.Update(p.state)
	}
}

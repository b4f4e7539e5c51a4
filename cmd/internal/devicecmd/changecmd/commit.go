package changecmd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rubus/boot"
	"rubus/boot/identity"
	"rubus/boot/writes"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/golden"
	"rubus/images/imageref"
	"rubus/images/layered"
	"rubus/images/treediff"
	"rubus/images/treesum"
	"rubus/images/upper"
)

// committed is what "rubus device commit --json" prints.
type committed struct {
	images.Version

	Tagged  bool       `json:"tagged"`
	Changes int        `json:"changes"`
	LeftOut []leftOut  `json:"left_out"`
	Size    upper.Size `json:"size"`
}

type leftOut struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// NewCommit is "rubus device commit", or when promote is set "promote".
func NewCommit(g *cli.Globals, promote bool) *cobra.Command {
	var message string
	var include []string
	c := &cobra.Command{
		Use:   "commit SERIAL IMAGE",
		Short: "Make a new version of an image of what a board wrote",
		Long: `Make a new version of IMAGE: the version that the board stands on, with what it
wrote as one more layer. The tag stays where it is. What makes the board that
one board (host keys, machine-id, host name), secrets and litter (logs, caches)
are left out and listed; --include PATH takes them in, but never a secret that
devices.yaml gave the board. The board may run: its
writes wait while they are copied.`,
		Example: `  rubus device commit bench-01 lab --message "with htop"
  rubus device promote bench-01 lab`,
		Args:              cli.WantArgs,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			ref, err := imageref.Parse(args[1])
			if err == nil && ref.Version != 0 {
				err = fmt.Errorf("%q is a version: a new one is made of the name %q", args[1], ref.Name)
			}
			if err != nil {
				return ui.Usage(err)
			}
			return commit(c.Context(), g, serial, ref, commitOptions{message, include, promote})
		},
	}
	if promote {
		c.Use, c.Short = "promote SERIAL IMAGE", "Make what a board wrote the version that an image's name means"
		c.Long = "Do what \"rubus device commit\" does, and move the tag of IMAGE to the new\nversion: boards that follow it boot it next."
		c.Example = "  rubus device promote bench-01 lab --message \"with htop\""
	}
	c.Flags().StringVar(&message, "message", "", "a `text` to keep with the version")
	c.Flags().StringSliceVar(&include, "include", nil, "take in what is at or below this `path`; may be said again")
	return c
}

type commitOptions struct {
	message string
	include []string
	promote bool
}

// commit takes a snapshot, so that the board is held for the copy alone, and makes
// the layer of it.
func commit(ctx context.Context, g *cli.Globals, serial device.Serial, ref imageref.Ref, o commitOptions) error {
	s, err := g.ImageStore()
	if err != nil {
		return err
	}
	p, done, err := stillPlace(ctx, g, s, serial)
	if errors.Is(err, writes.ErrNothing) || control.IsKind(err, control.KindNothing) {
		return fmt.Errorf("there is nothing to commit: %w", err)
	}
	if err != nil {
		return err
	}
	defer done()
	base, err := s.Resolve(p.Image)
	if err != nil {
		return cli.ImageError(fmt.Errorf("the version that the board stands on: %w", err))
	}
	out, err := commitPlace(ctx, g, s, p, base, serial, ref, o)
	if err != nil {
		return fmt.Errorf("committing what board %s wrote: %w", serial, err)
	}
	for _, l := range out.LeftOut {
		g.Notef("left out: /%s (%s)", ui.Visible(l.Path), l.Why)
	}
	g.Did(ctx, "image commit", serial.String(), out.Ref.String())
	if g.JSON {
		return g.PrintJSON(out)
	}
	fmt.Fprintf(g.Stdout, "%s: %s over %s, %s\n", out.Ref, ui.Count(int64(out.Changes), "change"), p.Image, ui.Bytes(out.Size.Bytes))
	if !out.Tagged {
		g.Notef("%q means the version it meant before: \"rubus image tag %s %s\" moves it", ref.Name, ref.Name, out.Ref)
	}
	return nil
}

func commitPlace(ctx context.Context, g *cli.Globals, s *images.Store, p writes.Place, base images.Version, serial device.Serial, ref imageref.Ref, o commitOptions) (out committed, err error) {
	if !slices.EqualFunc(base.Layers, p.Base.Digests, func(l images.Layer, d string) bool { return l.Digest == d }) {
		return out, fmt.Errorf("%s is not the stack of layers that the board wrote over", p.Image)
	}
	before, after, err := openPlace(p)
	if err != nil {
		return out, err
	}
	defer before.Close()
	defer after.Close()
	changes, err := treediff.Plain(ctx, before, after)
	if err != nil {
		return out, err
	}
	state, err := g.StateDir()
	if err != nil {
		return out, err
	}
	given, err := boot.IdentityStore(state, serial).Given()
	if err != nil {
		return out, err
	}
	changes, out.LeftOut = part(changes, o.include, given.Owned(after.ReadFile), func(c treediff.Change) bool {
		return c.New != nil && isSecret(given, after, c.Path, c.New)
	})
	if len(changes) == 0 {
		what, hint := "it is as its image", fmt.Sprintf("\"rubus device diff %s\" shows what it changed", serial)
		if len(out.LeftOut) > 0 {
			what += ", but for what belongs into none"
			hint += "; --include PATH takes in what is left out, but no secret"
		}
		return out, ui.Hint(errors.New("there is nothing to commit: "+what), hint)
	}
	pending, err := s.Begin(ctx)
	if err != nil {
		return out, err
	}
	defer func() { _ = pending.Abort() }() // swept at the next Open, else
	show := g.Progress()
	defer show.End()
	tree := fmt.Sprintf("/proc/self/fd/%d", pending.Tree())
	out.Size, err = upper.Build(ctx, tree, upper.Delta{Base: before, Was: before, Tree: after, Changes: changes}, upper.Paced(func(z upper.Size) {
		show.Update(progress.State{Phase: "copying", Done: z.Bytes, Files: z.Files})
	}))
	if err != nil {
		return out, err
	}
	entries, err := treesum.Tree(ctx, pending.Tree(), nil)
	if err != nil {
		return out, err
	}
	tags, err := s.Tags()
	if err != nil {
		return out, err
	}
	_, tagged := tags[ref.Name]
	out.Tagged = o.promote || !tagged
	out.Changes = len(changes)
	out.Version, _, err = pending.Commit(ctx, images.NewVersion{
		Name: ref.Name, Source: "board " + serial.String(), Message: o.message, Base: &base, Boot: p.Boot, NoTag: !out.Tagged,
	}, entries, out.Size.Bytes)
	return out, err
}

// part parts the changes that belong into an image from those that do not: what makes the board
// that one board, with what is owned, secrets and litter. What is at or below the paths to include
// belongs, but no secret does.
func part(changes []treediff.Change, include []string, owned map[string]bool, isSecret func(treediff.Change) bool) (in []treediff.Change, out []leftOut) {
	out = []leftOut{}
	for _, c := range changes {
		why := golden.LeftOut(c, include)
		switch {
		case isSecret(c):
			why = golden.Secret
		case why == "" && owned[c.Path] && !treediff.IsBelow(c.Path, include):
			why = golden.Identity
		}
		if why == "" {
			in = append(in, c)
		} else {
			out = append(out, leftOut{c.Path, why})
		}
	}
	return in, out
}

// isSecret says whether a file of a board may be in no image and on no screen: a secret that
// the board was given, a copy of one, or a host key, also one that it made itself.
func isSecret(given identity.Given, after *layered.View, file string, n *layered.Node) bool {
	if !n.IsRegular() {
		return false
	}
	if ok, _ := path.Match("etc/ssh/ssh_host_*_key", file); ok {
		return true
	}
	if n.Stat.Size > identity.MaxFile {
		return false
	}
	data, err := after.ReadFile(file, identity.MaxFile)
	return err != nil || given.IsSecret(file, data)
}

// keepCommitted is how long a snapshot that was taken for an image stays, at most, when its
// taker does not live to remove it.
const keepCommitted = 24 * time.Hour

// stillPlace is what a board wrote, in a state that nobody changes: a snapshot that done
// removes, or without a daemon the upper itself, while none may start.
func stillPlace(ctx context.Context, g *cli.Globals, s *images.Store, serial device.Serial) (p writes.Place, done func(), err error) {
	state, err := g.StateDir()
	if err != nil {
		return p, nil, err
	}
	d := g.Daemon()
	tell, end := g.Telling("copying")
	snap, err := d.Snapshot(ctx, serial, "taken to make an image of", keepCommitted, tell)
	end()
	if control.IsKind(err, control.KindNotRunning) {
		if done, err = cli.StillBoard(state, serial); err != nil {
			return p, nil, err
		}
		if p, err = writtenPlace(g, serial); err != nil {
			done()
		}
		return p, done, err
	}
	if err != nil {
		return p, nil, err
	}
	done = func() {
		if err := d.RemoveSnapshot(context.WithoutCancel(ctx), serial, snap.N); err != nil {
			g.Notef("warning: snapshot %d, which is not needed any more, stays: %v", snap.N, err)
		}
	}
	p, err = writes.SnapshotPlace(state, s, serial, snap.N)
	if err != nil {
		done()
		return p, nil, err
	}
	return p, done, nil
}

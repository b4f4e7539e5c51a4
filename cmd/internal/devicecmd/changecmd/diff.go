package changecmd

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rubus/boot"
	"rubus/boot/record"
	"rubus/boot/writes"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/showdiff"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/images/layered"
	"rubus/images/sysdiff"
	"rubus/images/treediff"
)

// deviceDiff is what "rubus device diff --json" prints.
type deviceDiff struct {
	Serial device.Serial `json:"serial"`
	// Base is the version that the board wrote over, State what the slot is to it.
	Base    imageref.Ref     `json:"base"`
	State   record.SlotState `json:"state"`
	Made    time.Time        `json:"made"`
	Mounted time.Time        `json:"mounted,omitzero"`
	// Identity are files of the board's identity, as it was given them: they are no
	// changes of its own, and not among the others.
	Identity []string `json:"identity"`
	*sysdiff.Report
}

// NewDiff is "rubus device diff".
func NewDiff(g *cli.Globals) *cobra.Command {
	var patch, files, identity bool
	c := &cobra.Command{
		Use:   "diff SERIAL [PATH]...",
		Short: "Show what a board changed against its image",
		Long: `Show what a board changed against the version it stands on: packages, edited
configuration files, and all other files that were added (A), removed (D),
changed (M), renamed (R) or given other metadata alone (m). Files that came and
went with a package are counted, not listed, unless --files asks for them.
PATH shows only what is at or below it. A board that runs is not disturbed.`,
		Example: `  rubus device diff bench-01
  rubus device diff bench-01 /etc -p
  rubus device diff bench-01 --json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%q needs a SERIAL", c.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			serial, err := g.SerialOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			p, err := writtenPlace(g, serial)
			if err != nil {
				return err
			}
			before, after, err := openPlace(p)
			if err != nil {
				return err
			}
			defer before.Close()
			defer after.Close()
			r, err := showdiff.Compare(c.Context(), g, before, after)
			if err != nil {
				return fmt.Errorf("comparing board %s with %s: %w", serial, p.Image, err)
			}
			own, err := unchangedIdentity(g, serial, after)
			if err != nil {
				return err
			}
			shown := []string{}
			if !identity {
				for _, f := range r.Files {
					if own[f.Path] {
						shown = append(shown, "/"+f.Path)
					}
				}
				r.Without(own)
			}
			r.Files = onlyBelow(r.Files, args[1:])
			switch {
			case g.JSON:
				return g.PrintJSON(deviceDiff{serial, p.Image, p.State, p.Made, p.Mounted, shown, r})
			case patch:
				if err := hideSecrets(g, serial, after, r); err != nil {
					return err
				}
				return showdiff.Patch(g, before, after, r, files)
			}
			g.Notef("%s against %s: %s", serial, p.Image, showdiff.Totals(r.Totals))
			showdiff.Report(g, r, files || len(args) > 1)
			if len(shown) > 0 && len(args) == 1 {
				g.Notef("and %s of its identity (--identity lists them)", ui.Count(int64(len(shown)), "file"))
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&patch, "patch", "p", false, "show text files as unified diffs")
	c.Flags().BoolVar(&files, "files", false, "list the files of changed packages too")
	c.Flags().BoolVar(&identity, "identity", false, "list the files of the board's identity too")
	return c
}

// hideSecrets takes out of a diff the files whose text nobody is to see, and names them.
func hideSecrets(g *cli.Globals, serial device.Serial, after *layered.View, r *sysdiff.Report) error {
	state, err := g.StateDir()
	if err != nil {
		return err
	}
	given, err := boot.IdentityStore(state, serial).Given()
	if err != nil {
		return err
	}
	r.Files = slices.DeleteFunc(r.Files, func(f sysdiff.File) bool {
		hide := f.New != nil && isSecret(given, after, f.Path, f.New)
		if hide {
			g.Notef("/%s is a secret: not shown", ui.Visible(f.Path))
		}
		return hide
	})
	return nil
}

// unchangedIdentity are the paths at which a board has what it was given.
func unchangedIdentity(g *cli.Globals, serial device.Serial, after *layered.View) (map[string]bool, error) {
	state, err := g.StateDir()
	if err != nil {
		return nil, err
	}
	given, err := boot.IdentityStore(state, serial).Given()
	if err != nil {
		return nil, err
	}
	return given.Unchanged(after.ReadFile), nil
}

// writtenPlace is where a board's writes lie: its present root's, or those it would boot
// with. One that is empty counts only when all are.
func writtenPlace(g *cli.Globals, serial device.Serial) (writes.Place, error) {
	state, err := g.StateDir()
	if err != nil {
		return writes.Place{}, err
	}
	s, err := g.ImageStore()
	if err != nil {
		return writes.Place{}, err
	}
	places, err := writes.Places(state, s, serial)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return writes.Place{}, ui.Hint(err, "boards' files belong to root: try sudo")
	case errors.Is(err, boot.ErrNotFound):
		return writes.Place{}, ui.Hint(fmt.Errorf("board %s has written %w: it has no root yet", serial, writes.ErrNothing), "\"rubus status\" lists the boards")
	case err != nil:
		return writes.Place{}, err
	}
	for _, p := range places {
		if empty, err := p.IsEmpty(); err != nil || !empty {
			return p, err
		}
	}
	return places[0], nil
}

// openPlace opens what a board changed, and what it is now.
func openPlace(p writes.Place) (before, after *layered.View, err error) {
	if before, err = layered.Open(p.Layers); err != nil {
		return nil, nil, fmt.Errorf("image %s: %w", p.Image, err)
	}
	after, err = layered.OpenUpper(p.Layers, p.UpperDir)
	if errors.Is(err, fs.ErrNotExist) && p.Mounted.IsZero() {
		after, err = layered.Open(p.Layers) // prepared, and nothing written
	}
	if err != nil {
		before.Close()
		return nil, nil, err
	}
	return before, after, nil
}

// onlyBelow keeps what is at or below one of the paths; none: all.
func onlyBelow(files []sysdiff.File, paths []string) []sysdiff.File {
	if len(paths) == 0 {
		return files
	}
	return slices.DeleteFunc(files, func(f sysdiff.File) bool {
		return !treediff.IsBelow(f.Path, paths) && (f.From == "" || !treediff.IsBelow(f.From, paths))
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rubus/boot/writes"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/share"
)

// space is what "rubus df --json" prints. Sizes are in bytes.
type space struct {
	State string `json:"state"`
	// Size and Free are of the file system; Free is what rubus may use.
	Size int64 `json:"size_bytes"`
	Free int64 `json:"free_bytes"`
	// Saved is what layers take less than the sum of their bytes, as files of the same
	// content share blocks; null where the file system cannot tell.
	Saved  *int64       `json:"saved_bytes"`
	Layers []spaceLayer `json:"layers"`
	Boards []spaceBoard `json:"boards"`
}

type spaceLayer struct {
	images.Layer

	// Versions have the layer; more than one share it. None: gc takes it when no
	// board stands on it.
	Versions []string `json:"versions"`
	// Shared are the bytes on blocks that other files have, too: they stay when the
	// layer goes. It is null where the file system shares none.
	Shared *int64 `json:"shared_bytes"`
}

type spaceBoard struct {
	writes.Kept

	Name string `json:"name,omitempty"`
	// Quota is what each of its roots may have; nil: there is no limit.
	Quota *config.Quota `json:"quota,omitempty"`
}

func newDfCmd(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "df",
		Short: "Show what takes the disk's space",
		Long: `Show what takes the disk's space: each layer once, with the versions that share
it, and of each board the roots and snapshots. What layers hold is counted as it
was imported, without holes, and on xfs and btrfs SHARED is what of it lies on
blocks that other files have, too; what boards hold as it lies on the disk, and
snapshots that share blocks with it (reflink) in full. A quota is of each root
of a board; snapshots do not count.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			state, err := g.StateDir()
			if err != nil {
				return err
			}
			s, err := g.ImageStore()
			if err != nil {
				return err
			}
			out := space{State: state}
			var st unix.Statfs_t
			if err := unix.Statfs(state, &st); err != nil {
				return fmt.Errorf("asking for the space of %q: %w", state, err)
			}
			out.Size, out.Free = int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
			versions, broken := s.List()
			out.Layers = spaceOfLayers(versions)
			if err := out.measure(c.Context(), g, s); err != nil {
				return err
			}
			kept, err := writes.KeptOfAll(c.Context(), state)
			if err != nil {
				return err
			}
			out.Boards = []spaceBoard{}
			conf, _ := g.LoadConfig() // without it boards have no names
			for _, k := range kept {
				b := spaceBoard{Kept: k}
				if d := deviceOf(conf, k.Serial); d != nil {
					if b.Name = d.Name; d.Quota != (config.Quota{}) {
						b.Quota = &d.Quota
					}
				}
				out.Boards = append(out.Boards, b)
			}
			if g.JSON {
				err = g.PrintJSON(out)
			} else {
				showSpace(g, out)
			}
			if broken != nil {
				return broken
			}
			return err
		},
	}
}

func deviceOf(conf *config.Snapshot, serial device.Serial) *config.Device {
	if conf == nil {
		return nil
	}
	return conf.BySerial(serial)
}

// spaceOfLayers lists every layer once, the largest first.
func spaceOfLayers(versions []images.Version) []spaceLayer {
	at := map[string]int{}
	out := []spaceLayer{}
	for _, v := range versions {
		for _, l := range v.Layers {
			i, ok := at[l.Digest]
			if !ok {
				i = len(out)
				at[l.Digest] = i
				out = append(out, spaceLayer{Layer: l})
			}
			out[i].Versions = append(out[i].Versions, v.Ref.String())
		}
	}
	slices.SortStableFunc(out, func(a, b spaceLayer) int { return int(b.Bytes - a.Bytes) })
	return out
}

// measure finds out which blocks of layers are shared. It blocks for a look at each file.
func (s *space) measure(ctx context.Context, g *cli.Globals, store *images.Store) error {
	digests := make([]string, len(s.Layers))
	for i, l := range s.Layers {
		digests[i] = l.Digest
	}
	usage, err := share.Measure(ctx, store, digests)
	if errors.Is(err, share.ErrUnsupported) {
		return nil
	} else if err != nil {
		return err
	}
	saved := -usage.Once
	for i := range s.Layers {
		s.Layers[i].Shared = &usage.Shared[i]
		saved += usage.Shared[i]
	}
	s.Saved = &saved
	return nil
}

func showSpace(g *cli.Globals, s space) {
	var layers, roots, snapshots int64
	var rows [][]string
	for _, l := range s.Layers {
		layers += l.Bytes
		row := []string{l.Digest[:12], ui.Bytes(l.Bytes), strconv.FormatInt(l.Files, 10), strings.Join(l.Versions, ", ")}
		if l.Shared != nil {
			row = slices.Insert(row, 2, ui.Bytes(*l.Shared))
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		head := []string{"LAYER", "BYTES", "FILES", "VERSIONS"}
		if s.Saved != nil {
			head = slices.Insert(head, 2, "SHARED")
		}
		ui.Table(g.Stdout, head, rows, len(head)-1)
		fmt.Fprintln(g.Stdout)
	}
	rows = nil
	for _, b := range s.Boards {
		roots += b.RootBytes
		snapshots += b.KeptBytes
		quota := ""
		if b.Quota != nil && b.Quota.Bytes > 0 {
			quota = ui.Bytes(b.Quota.Bytes)
		}
		rows = append(rows, []string{
			b.Serial.String(), ui.Dash(b.Name), ui.Bytes(b.RootBytes), ui.Dash(quota), strconv.FormatInt(b.RootFiles, 10), ui.Bytes(b.KeptBytes), strconv.Itoa(b.Snapshots),
		})
	}
	if len(rows) > 0 {
		ui.Table(g.Stdout, []string{"BOARD", "NAME", "ROOTS", "QUOTA", "FILES", "SNAPSHOTS", "N"}, rows, 1)
		fmt.Fprintln(g.Stdout)
	}
	fmt.Fprintf(g.Stdout, "layers %s, roots %s, snapshots %s; %s of %s free\n",
		ui.Bytes(layers), ui.Bytes(roots), ui.Bytes(snapshots), ui.Bytes(s.Free), ui.Bytes(s.Size))
	if s.Saved != nil {
		fmt.Fprintf(g.Stdout, "layers take %s less: files of the same content lie on the disk once\n", ui.Bytes(*s.Saved))
	}
}

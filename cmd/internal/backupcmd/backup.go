package backupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rubus/boot/backup"
	"rubus/cmd/internal/buildinfo"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
	"rubus/images/archive"
	"rubus/images/upper"
)

// written is what "rubus backup --json" prints.
type written struct {
	backup.Report

	File string `json:"file"`
	// Size is that of the file, in bytes, Removed are older ones that went (--keep).
	Size    int64    `json:"size"`
	Removed []string `json:"removed,omitempty"`
	// Damaged are files in the directory that are no whole backups.
	Damaged []damaged `json:"damaged,omitempty"`
}

type backupFlags struct {
	output, to, since string
	fullEvery, keep   int
	full, images      bool
}

// NewBackup is "rubus backup".
func NewBackup(g *cli.Globals) *cobra.Command {
	var f backupFlags
	c := &cobra.Command{
		Use:   "backup [SERIAL]...",
		Short: "Write boards, or all there is, to a tar stream",
		Long: `Write what boards have, their writes, snapshots and identity, to a tar stream.
Without SERIAL all boards are taken, and devices.yaml, rubus.yaml, the key of
file handles and what else the daemon keeps. Boards may run: the writes of each
are held, without an error, while it is looked at and what is new is copied.

--to DIR is for every night: it writes a new file there, with what changed since
the newest one in DIR; every 30th is a full one. --since FILE does this for one
file, and FILE may be such an increment itself.

"rubus restore" brings it back, onto other layers of the same content too: with
--images the backup has the image versions as well. It holds secrets.`,
		Example: `  rubus backup --to /mnt/nas/rubus --keep 3
  rubus backup -o - --images | ssh newhost rubus restore - --yes
  rubus backup bench-01 -o bench-01.tar.zst`,
		ValidArgsFunction: g.CompleteDevices,
		RunE: func(c *cobra.Command, args []string) error {
			return f.run(c.Context(), g, args)
		},
	}
	c.Flags().StringVarP(&f.output, "output", "o", "", "the `file` to write, \"-\" for standard output; .zst is compressed")
	c.Flags().StringVar(&f.to, "to", "", "write the next file of this `directory`")
	c.Flags().StringVar(&f.since, "since", "", "write what changed since the backup in this `file`")
	c.Flags().BoolVar(&f.full, "full", false, "with --to: write all")
	c.Flags().IntVar(&f.fullEvery, "full-every", 30, "with --to: after so many `files` write all again")
	c.Flags().IntVar(&f.keep, "keep", 0, "with --to: keep this `number` of full backups, with what goes on from them; 0: all")
	c.Flags().BoolVar(&f.images, "images", false, "take the image versions too")
	return c
}

func (f *backupFlags) run(ctx context.Context, g *cli.Globals, args []string) error {
	switch {
	case (f.output == "") == (f.to == ""):
		return ui.Usagef("say where to write: --to DIR for every night, or -o FILE")
	case f.to != "" && (f.since != "" || len(args) > 0):
		return ui.Usagef("--to DIR is for all boards, and finds by itself what it goes on from")
	case f.output == "-" && g.IsTerminal(g.Stdout):
		return ui.Usagef("a backup is nothing for a terminal: say -o FILE, or pipe it")
	case f.output == "-" && g.JSON:
		return ui.Usagef("--json and a backup cannot both go to standard output")
	}
	o, err := f.options(ctx, g, args)
	if err != nil {
		return err
	}
	var dir *target
	if f.to != "" {
		if dir, err = openTarget(f.to); err != nil {
			return err
		}
		defer dir.close()
		f.output = filepath.Join(f.to, nameOf(o.Head))
		last, err := dir.goesOn(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !f.full {
			g.Notef("warning: all is written again: %v", err)
		}
		if !f.full && len(last) > 0 && len(last) < f.fullEvery {
			f.since = last[len(last)-1].path
			f.output = filepath.Join(f.to, moreName(o.Head))
		}
	}
	if f.since != "" {
		in, err := openBackup(f.since)
		if err != nil {
			return err
		}
		defer in.Close()
		if o.Since, err = archive.NewLister(in.lister()); err != nil {
			return fmt.Errorf("%s: %w", f.since, err)
		}
	}
	show := g.Progress()
	o.Progress = func(phase string, s upper.Size) {
		show.Update(progress.State{Phase: phase, Done: s.Bytes, Files: s.Files})
	}
	out := written{File: f.output}
	out.Report, out.Size, err = f.write(ctx, g, o)
	show.End()
	if err != nil {
		return err
	}
	if dir != nil {
		if f.keep > 0 {
			show := g.Progress()
			out.Removed, err = dir.prune(ctx, f.keep, filepath.Base(f.output), func(n int64) {
				show.Update(progress.State{Phase: "checking those that stay", Done: n})
			})
			if show.End(); err != nil {
				return fmt.Errorf("the backup is written; removing older ones: %w", err)
			}
		}
		out.Damaged = dir.damaged
	}
	return f.tell(g, out)
}

// options are what the library wants to know.
func (f *backupFlags) options(ctx context.Context, g *cli.Globals, args []string) (backup.Options, error) {
	state, err := g.StateDir()
	if err != nil {
		return backup.Options{}, err
	}
	if err := unix.Access(filepath.Join(state, "devices"), unix.R_OK); errors.Is(err, unix.EACCES) {
		return backup.Options{}, ui.Hint(fmt.Errorf("reading %q: %w", state, err), "what boards wrote belongs to root: try sudo")
	}
	store, err := g.ImageStore()
	if err != nil {
		return backup.Options{}, err
	}
	host, _ := os.Hostname()
	o := backup.Options{
		State: state, Store: store, Images: f.images, Whole: len(args) == 0, Hold: holder(g, state), Reserve: reserve(g),
		Head: archive.Head{ID: archive.NewID(), Made: time.Now().UTC(), Host: host, By: buildinfo.This().Version},
	}
	if o.Whole {
		o.Config = map[string]string{devicesName: g.DevicesFile, daemonName: g.ConfigFile}
		return o, nil
	}
	for _, a := range args {
		serial, err := g.SerialOf(ctx, a)
		if err != nil {
			return o, err
		}
		if _, err := os.Stat(filepath.Join(state, "devices", serial.String())); err != nil {
			return o, fmt.Errorf("board %s has nothing to back up", serial)
		}
		o.Boards = append(o.Boards, serial)
	}
	return o, nil
}

// reserve is what the disk keeps for rubus itself; the default, when rubus.yaml is broken.
func reserve(g *cli.Globals) int64 {
	d := config.DefaultDaemon()
	if f, err := config.LoadFile(g.ConfigFile); err == nil {
		if c, err := config.ParseDaemon(f); err == nil {
			d = c
		}
	}
	return d.Reserve
}

// Names of the configuration's files in a backup.
const (
	devicesName = "devices.yaml"
	daemonName  = "rubus.yaml"
)

// write writes the file: whole, or none of it.
func (f *backupFlags) write(ctx context.Context, g *cli.Globals, o backup.Options) (backup.Report, int64, error) {
	if f.output == "-" {
		n := &counter{w: g.Stdout}
		r, err := backup.Write(ctx, n, o)
		return r, n.n, err
	}
	dir := filepath.Dir(f.output)
	tmp, err := os.CreateTemp(dir, tmpPrefix) // 0600
	if err != nil {
		return backup.Report{}, 0, fmt.Errorf("writing a backup: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	out, end := io.Writer(tmp), func() error { return nil }
	if strings.HasSuffix(f.output, ".zst") {
		z, err := zstd.NewWriter(tmp)
		if err != nil {
			return backup.Report{}, 0, err
		}
		out, end = z, z.Close
	}
	r, err := backup.Write(ctx, out, o)
	if err == nil {
		err = errors.Join(end(), tmp.Sync())
	}
	if err != nil {
		return r, 0, err
	}
	fi, err := tmp.Stat()
	if err == nil {
		err = os.Rename(tmp.Name(), f.output)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return r, 0, fmt.Errorf("writing a backup: %w", err)
	}
	return r, fi.Size(), nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// tell says what was done; boards that could not be read make it an error.
func (f *backupFlags) tell(g *cli.Globals, w written) error {
	var bad []string
	var held time.Duration
	for _, b := range w.Boards {
		held = max(held, b.Held)
		if b.Failed != "" {
			bad = append(bad, b.Serial.String())
			g.Notef("warning: board %s is not in the backup: %s", b.Serial, b.Failed)
		}
	}
	what := "all of"
	if w.Since != "" {
		what = "what changed of"
	}
	g.Notef("%s: %s %s, %s in %s; a board waited for %s at most", f.output, what, ui.Count(int64(len(w.Boards)-len(bad)), "board"),
		ui.Bytes(w.Bytes), ui.Count(w.Files, "file"), held.Round(time.Millisecond))
	for _, r := range w.Removed {
		g.Notef("removed %s", r)
	}
	for _, d := range w.Damaged {
		g.Notef("warning: %s is damaged, and was not removed: %s", d.File, d.Why)
	}
	if f.output != "-" {
		if err := g.Answer(w); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("not in the backup: %s", strings.Join(bad, ", "))
	}
	if len(w.Damaged) > 0 {
		return ui.Hint(fmt.Errorf("%s: %s damaged", f.to, ui.Count(int64(len(w.Damaged)), "file")), "the backup just written is whole; move the damaged ones away, and write all again: --full")
	}
	return nil
}

// serialsOf reads boards named in flags.
func serialsOf(ctx context.Context, g *cli.Globals, names []string) (out []device.Serial, err error) {
	for _, n := range names {
		s, err := g.SerialOf(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

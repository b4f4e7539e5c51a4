package backupcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"rubus/boot/backup"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/config/leftover"
	"rubus/images/imageref"
	"rubus/images/upper"
)

// restored is what "rubus restore --json" prints.
type restored struct {
	ID     string          `json:"id"`
	Made   time.Time       `json:"made"`
	DryRun bool            `json:"dry_run,omitempty"`
	Boards []restoredBoard `json:"boards"`
	// Images are versions, State and Config files that came.
	Images []imageref.Ref `json:"images,omitempty"`
	State  []string       `json:"state,omitempty"`
	Config []string       `json:"config,omitempty"`
}

type restoredBoard struct {
	backup.StagedBoard

	// Done says that the board is back; New that it had nothing here before, Taken how many
	// snapshots came to it, Kept which of its own files it had already.
	Done  bool     `json:"done"`
	New   bool     `json:"new,omitempty"`
	Taken int      `json:"taken_snapshots,omitempty"`
	Kept  []string `json:"kept,omitempty"`
}

type restoreFlags struct {
	devices                                 []string
	dryRun, yes, force, config, noSnapshots bool
}

// NewRestore is "rubus restore".
func NewRestore(g *cli.Globals) *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use:   "restore FILE...",
		Short: "Bring boards back from backups, on this machine or a new one",
		Long: `Bring back what "rubus backup" wrote: a full backup, then what goes on from it,
in their order; or a directory of backups, whose newest is taken, with all
that it goes on from. "-" is standard input.

All is read and checked first, then it is shown, and you are asked. Each board
is brought back whole or not at all. One that has writes here must be down
(--force cuts it off); they become a snapshot, and "rubus device restore" undoes
it. The boards must boot anew: no file handle is carried over.

The layers that boards stand on must be here, or in the backup (--images).
devices.yaml and rubus.yaml are put back where there are none, or with
--with-config.`,
		Example: `  rubus restore /mnt/nas/rubus --dry-run
  rubus restore /mnt/nas/rubus --device bench-01
  rubus restore full.tar monday.tar tuesday.tar`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%q needs a FILE, a directory of backups, or - for standard input", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return f.run(c.Context(), g, args) },
	}
	c.Flags().StringSliceVar(&f.devices, "device", nil, "bring back this `board` alone, and nothing else; may be said again")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done")
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&f.force, "force", false, "cut boards off that are up")
	c.Flags().BoolVar(&f.config, "with-config", false, "put devices.yaml and rubus.yaml in the place of those here")
	c.Flags().BoolVar(&f.noSnapshots, "no-snapshots", false, "leave out what was kept of boards")
	_ = c.RegisterFlagCompletionFunc("device", g.CompleteSerial)
	return c
}

func (f *restoreFlags) run(ctx context.Context, g *cli.Globals, args []string) error {
	o := backup.ReadOptions{NoSnapshots: f.noSnapshots, Reserve: reserve(g)}
	var err error
	if o.State, err = g.StateDir(); err != nil {
		return err
	}
	if o.Store, err = g.ImageStore(); err != nil {
		return err
	}
	if o.Boards, err = serialsOf(ctx, g, f.devices); err != nil {
		return err
	}
	p, err := openPlace(ctx, g, o)
	if err != nil {
		return err
	}
	defer p.unlock()
	in, end, err := openChain(g, args)
	if err != nil {
		return err
	}
	defer end()
	show := g.Progress()
	o.Progress = func(phase string, s upper.Size) {
		show.Update(progress.State{Phase: phase, Done: s.Bytes, Files: s.Files})
	}
	s, err := backup.Read(ctx, in, o)
	show.End()
	if errors.Is(err, fs.ErrPermission) {
		return ui.Hint(err, "what boards wrote belongs to root: try sudo")
	}
	if err != nil {
		return err
	}
	err = f.bring(ctx, g, p, s)
	return errors.Join(err, s.Close())
}

// openChain opens the files, or those that a directory's newest goes on from.
func openChain(g *cli.Globals, args []string) (in []io.Reader, end func(), err error) {
	if fi, err := os.Stat(args[0]); err == nil && fi.IsDir() {
		if len(args) > 1 {
			return nil, nil, ui.Usagef("%q is a directory of backups: name it alone", args[0])
		}
		t := &target{dir: args[0]}
		if err := t.read(); err != nil {
			return nil, nil, err
		}
		if len(t.damaged) > 0 {
			d := t.damaged[0]
			return nil, nil, ui.Hint(fmt.Errorf("%s: %s", d.File, d.Why), "move it away, or name the files of a backup, the full one first")
		}
		chain := t.chain()
		if chain == nil {
			return nil, nil, fmt.Errorf("there is no backup in %q, or one that the newest goes on from is missing", args[0])
		}
		args = nil
		for _, c := range chain {
			args = append(args, c.path)
		}
	}
	var open []*backupIn
	end = func() {
		for _, b := range open {
			b.Close()
		}
	}
	for _, a := range args {
		var b *backupIn
		if a == "-" {
			b, err = decompressed(g.Stdin)
		} else {
			b, err = openBackup(a)
		}
		if err != nil {
			end()
			return nil, nil, err
		}
		open = append(open, b)
		in = append(in, b.r)
	}
	return in, end, nil
}

func (f *restoreFlags) bring(ctx context.Context, g *cli.Globals, p *place, s *backup.Staged) error {
	out := restored{ID: s.Head.ID, Made: s.Head.Made, DryRun: f.dryRun, Boards: []restoredBoard{}}
	for _, b := range s.Boards {
		if b.Problem == "" {
			why, err := p.isUp(ctx, b.Serial)
			if err != nil {
				return err
			}
			if why != "" && !f.force {
				b.Problem = why
			}
		}
		out.Boards = append(out.Boards, restoredBoard{StagedBoard: b})
	}
	f.show(g, s, out)
	if f.dryRun {
		return errors.Join(g.Answer(out), unfinished(out, true))
	}
	if err := g.Confirm("bring this back?", f.yes); err != nil {
		return err
	}
	var err error
	if out.Images, err = s.Adopt(ctx); err != nil {
		return err
	}
	if len(f.devices) == 0 {
		if err := f.files(g, p, s, &out); err != nil {
			return err
		}
	}
	for i := range out.Boards {
		f.board(ctx, g, p, s, &out.Boards[i])
	}
	return errors.Join(g.Answer(out), unfinished(out, false))
}

func (f *restoreFlags) board(ctx context.Context, g *cli.Globals, p *place, s *backup.Staged, b *restoredBoard) {
	if b.Problem != "" {
		return
	}
	why, err := p.isUp(ctx, b.Serial)
	if err == nil && why != "" && f.force {
		err = p.stop(ctx, b.Serial)
	}
	if err == nil {
		t, terr := s.Bring(ctx, b.Serial, p.take)
		b.New, b.Taken, b.Kept, err = t.New, t.Snapshots, t.Kept, terr
	}
	if err != nil {
		b.Problem = err.Error()
		return
	}
	b.Done = true
	with := ""
	if b.Taken > 0 {
		with = " with " + ui.Count(int64(b.Taken), "snapshot")
	}
	g.Notef("board %s is back%s", b.Serial, with)
	if len(b.Kept) > 0 {
		g.Notef("board %s keeps what it has here: %s", b.Serial, strings.Join(b.Kept, ", "))
	}
}

// files puts back the configuration, and what the daemon keeps.
func (f *restoreFlags) files(g *cli.Globals, p *place, s *backup.Staged, out *restored) error {
	if p.fleet != nil {
		var err error
		if out.State, err = s.BringState(); err != nil {
			return err
		}
	} else if s.HasState() {
		g.Notef("what the daemon keeps for itself, its key and leases, is as it was: it runs")
	}
	for name, path := range map[string]string{devicesName: g.DevicesFile, daemonName: g.ConfigFile} {
		want, ok := s.Config[name]
		if !ok {
			continue
		}
		have, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case bytes.Equal(have, want):
			continue
		case !f.config:
			g.Notef("%s is another than in the backup, and stays (--with-config)", path)
			continue
		default:
			if err := putFile(path+".before-restore", have); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := putFile(path, want); err != nil {
			return err
		}
		out.Config = append(out.Config, path)
		g.Notef("%s is back", path)
	}
	return nil
}

// putFile replaces a file of the configuration: whole, and on the disk when it returns.
func putFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := leftover.Remove(path); err != nil { // of a restore that was killed
		return err
	}
	if err := renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(dir)); err != nil {
		return err
	}
	return syncDir(dir)
}

// show says what there is, on standard error, as the question is.
func (f *restoreFlags) show(g *cli.Globals, s *backup.Staged, out restored) {
	from := ""
	if s.Head.Host != "" {
		from = " on " + ui.Visible(s.Head.Host)
	}
	g.Notef("backup of %s%s", s.Head.Made.Local().Format("2006-01-02 15:04:05"), from)
	var rows [][]string
	for _, b := range out.Boards {
		note := b.Problem
		if note == "" && b.Stale != "" {
			note = "of an earlier backup: " + b.Stale
		}
		rows = append(rows, []string{
			b.Serial.String(), ui.Dash(b.Image.String()), ui.Bytes(b.Bytes), strconv.FormatInt(b.Files, 10), strconv.Itoa(b.Snapshots), ui.Visible(note),
		})
	}
	if len(rows) > 0 {
		ui.Table(g.Stderr, []string{"BOARD", "OVER", "BYTES", "FILES", "SNAPSHOTS", "PROBLEM"}, rows, 5, 1)
	}
}

// unfinished is the error of boards that are not back.
func unfinished(out restored, dry bool) error {
	var bad []string
	for _, b := range out.Boards {
		if b.Problem != "" {
			bad = append(bad, fmt.Sprintf("board %s: %s", b.Serial, b.Problem))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	verb := "are"
	if dry {
		verb = "would be"
	}
	return ui.Hint(fmt.Errorf("%d of %d boards %s not brought back:\n%s", len(bad), len(out.Boards), verb, strings.Join(bad, "\n")),
		"layers that are missing: \"rubus backup --images\" takes them along, or import the image again", "boards that are up: shut them down, or cut them off with --force")
}

package servecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/lograte"
	"rubus/cmd/internal/ui"
	"rubus/config"
)

// New is "rubus serve", the daemon.
func New(g *cli.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon: DHCP answers, TFTP, NFS",
		Long: `Run the daemon in the foreground. It answers the boards' boot requests, gives
them their files by TFTP and their roots by NFS; with nfs.backend: kernel in
rubus.yaml the host's nfsd serves these.

A board's root outlives the daemon: nothing is unmounted when it stops, and
boards go on when it is back. SIGHUP, or "rubus reload", reads devices.yaml
again; so does an edit of it. SIGTERM ends the daemon cleanly.`,
		Example: `  rubus serve
  rubus serve --state /srv/rubus --devices ./devices.yaml`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := serve(c.Context(), g)
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				return ui.Hint(err, "the daemon needs root: try sudo")
			}
			return err
		},
	}
}

// serve runs the daemon until ctx ends.
func serve(ctx context.Context, g *cli.Globals) error {
	// Files of boards get the modes their boards ask for, in one step: a kill
	// between two would leave less. All that rubus makes for itself names its mode.
	unix.Umask(0)
	conf, notice, err := newReloader(g)
	if err != nil {
		return err
	}
	log := newLogger(g.Stderr, conf.snapshot().Daemon().Log)
	switch {
	case errors.Is(notice, fs.ErrNotExist):
		log.Warn("there is no devices.yaml", "devices", len(conf.snapshot().Devices()), "err", notice)
	case notice != nil:
		log.Error("the configuration is refused; starting from the last valid one", "err", notice)
	}
	if err := os.MkdirAll(g.RunDir, 0o755); err != nil {
		return fmt.Errorf("making the run directory: %w", err)
	}
	s, err := newServer(ctx, g, conf, log)
	defer s.close()
	if err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}

// newLogger makes the daemon's logger. systemd's journal adds the time itself,
// but a file does not, so it is always there.
func newLogger(w io.Writer, l config.Log) *slog.Logger {
	opt := &slog.HandlerOptions{Level: l.Level}
	var h slog.Handler = slog.NewTextHandler(w, opt)
	if l.JSON {
		h = slog.NewJSONHandler(w, opt)
	}
	// Hundreds of boards may boot at once and are all named; what goes on like
	// that is nobody's boot. What admins changed is never left out.
	return slog.New(lograte.New(h, lograte.Limit{PerSecond: 2, Burst: 500, Except: []string{control.LogMessage}}))
}

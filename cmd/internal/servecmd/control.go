package servecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"rubus/boot"
	"rubus/boot/batch"
	"rubus/boot/flight"
	"rubus/boot/writes"
	"rubus/cmd/internal/buildinfo"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/nfsexport"
	"rubus/nfsexport/knfsd"
	"rubus/nfsexport/nfs3"
	"rubus/overlay"
)

// controlled is what the control socket offers of the daemon.
type controlled struct {
	fleet   *boot.Fleet
	boots   *flight.Recorder
	conf    *reloader
	cfg     config.Daemon // as the daemon was started with
	state   string
	started time.Time
	noDHCP  *reasons
	host    *knfsd.Server // nil: the NFS server is ours
}

var _ control.Daemon = (*controlled)(nil)

// Status implements control.Daemon.
func (d *controlled) Status(ctx context.Context) (control.Status, error) {
	boards, err := d.Boards(ctx)
	if err != nil {
		return control.Status{}, err
	}
	st := control.Status{
		Running: true, Version: buildinfo.This().Version, PID: os.Getpid(), Started: d.started, State: d.state,
		Refused: d.conf.problem(), RestartFor: config.NeedsRestart(d.cfg, d.conf.snapshot().Daemon()),
		NoDHCP: d.noDHCP.list(), Warnings: warnings(d.host), Boards: boards, Unknown: []control.Sighting{},
	}
	st.Unfinished = batch.UnfinishedOf(d.fleet.Rollouts().Batches(), func(s device.Serial, to imageref.Ref) bool {
		return slices.ContainsFunc(boards, func(b control.Board) bool { return b.Serial == s && b.Running == to })
	})
	for _, u := range d.fleet.Unknown() {
		s := control.Sighting{
			Serial: u.Serial, MAC: u.MAC, First: u.First, Last: u.Last, Times: u.Times, Stage: u.Stage, Bootloader: u.Bootloader,
		}
		if u.Revision != 0 {
			s.Model, s.MemoryMiB, s.Revision = u.Revision.String(), u.Revision.MemoryMiB(), fmt.Sprintf("%06x", uint32(u.Revision))
		}
		st.Unknown = append(st.Unknown, s)
	}
	return st, nil
}

// Boards implements control.Daemon.
func (d *controlled) Boards(context.Context) ([]control.Board, error) {
	out := []control.Board{}
	for _, s := range d.fleet.Boards() {
		out = append(out, boardOf(s))
	}
	return out, nil
}

// Board implements control.Daemon.
func (d *controlled) Board(_ context.Context, serial device.Serial) (control.Board, error) {
	s, ok := d.fleet.Board(serial)
	if !ok {
		return control.Board{}, control.Errorf(control.KindNotFound, "no device and no state of board %q", serial).
			WithHint("\"rubus status\" lists the boards, those that devices.yaml does not name too")
	}
	b := boardOf(s)
	if a := s.Activity; a != nil {
		b.NFS, b.RefusedCalls = proceduresOf(a.Figures()), a.Refused.Load()
	}
	return b, nil
}

// proceduresOf names procedures, the most called one first.
func proceduresOf(all []nfsexport.Figures) []control.Procedure {
	var out []control.Procedure
	for _, f := range all {
		out = append(out, control.Procedure{
			Name: nfs3.ProcName(f.Procedure), Calls: f.Calls, Errors: f.Errors, Mean: f.Total / time.Duration(max(f.Calls, 1)),
			P50: f.P50, P90: f.P90, P99: f.P99, Worst: f.Worst,
		})
	}
	slices.SortStableFunc(out, func(a, b control.Procedure) int { return cmp.Compare(b.Calls, a.Calls) })
	return out
}

// Stop implements control.Daemon.
func (d *controlled) Stop(ctx context.Context, serial device.Serial) error {
	err := d.fleet.Stop(ctx, serial)
	if d.isUnseen(serial, err) {
		return nil // There is nothing to cut off.
	}
	return controlError(err)
}

// isUnseen says that the fleet did not find a board because it never asked for
// anything: devices.yaml has it.
func (d *controlled) isUnseen(serial device.Serial, err error) bool {
	_, ok := d.fleet.Board(serial)
	return ok && errors.Is(err, boot.ErrNotFound)
}

// ResetPlan implements control.Daemon.
func (d *controlled) ResetPlan(ctx context.Context, serial device.Serial) (control.ResetPlan, error) {
	uppers, err := d.fleet.Uppers(ctx, serial)
	if err != nil && !d.isUnseen(serial, err) {
		return control.ResetPlan{}, controlError(err)
	}
	s, _ := d.fleet.Board(serial)
	p := control.ResetPlan{Serial: serial, Up: string(s.Up), Uppers: []control.Upper{}, Image: s.Running}
	if !s.Available.IsZero() {
		p.Image = s.Available
	}
	for _, u := range uppers {
		p.Uppers = append(p.Uppers, control.Upper{
			Name: u.Upper, State: string(u.State), Image: u.Image, Bytes: u.Bytes, Files: u.Files, Made: u.Made,
		})
	}
	return p, nil
}

// Reset implements control.Daemon.
func (d *controlled) Reset(ctx context.Context, serial device.Serial, o control.ResetOptions, tell func(control.Progress)) error {
	return controlError(d.fleet.Reset(ctx, serial, boot.ResetOptions{Force: o.Force, Keep: o.Keep, Progress: telling(tell)}))
}

// Log implements control.Daemon.
func (d *controlled) Log(_ context.Context, serial device.Serial, n int) (control.BootLog, error) {
	now := time.Now()
	t, err := d.boots.Timeline(serial, n)
	if errors.Is(err, flight.ErrNoBoot) {
		e := control.Errorf(control.KindNotFound, "%v", err)
		if n == 0 {
			return control.BootLog{}, e.WithHint("boots are recorded of boards that devices.yaml names; a board that nothing is heard of: see \"rubus doctor\"")
		}
		return control.BootLog{}, e.WithHint("\"rubus device log SERIAL --list\" lists them")
	}
	if err != nil {
		return control.BootLog{}, err
	}
	boots, err := d.boots.Boots(serial, now)
	return control.BootLog{Boots: boots, Timeline: t, Verdict: flight.Judge(t, now)}, err
}

// Reload implements control.Daemon.
func (d *controlled) Reload(_ context.Context, yes bool) (control.Reloaded, error) {
	before := d.conf.snapshot()
	if err := d.conf.reload(yes); err != nil {
		e := control.Errorf(control.KindInvalid, "%v", err)
		var drop *config.DropError
		if errors.As(err, &drop) {
			e.Kind = control.KindRefused
		}
		if hinted, ok := errors.AsType[*ui.Error](err); ok {
			e.Hints = hinted.Hints
		}
		return control.Reloaded{}, e
	}
	after := d.conf.snapshot()
	c := config.Compare(before, after)
	return control.Reloaded{
		Devices: len(after.Devices()), Added: c.Added, Removed: c.Removed, Changed: c.Changed,
		RestartFor: config.NeedsRestart(d.cfg, after.Daemon()),
	}, nil
}

// controlError gives an error of the fleet its kind on the socket.
func controlError(err error) error {
	var missing *overlay.MissingLayersError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		return control.Errorf(control.KindRefused, "%v", err).
			WithHint("importing the same source again brings a layer back, and so does \"rubus restore\" of a backup with --images")
	case errors.Is(err, overlay.ErrOtherBase):
		return control.Errorf(control.KindRefused, "%v", err).
			WithHint("\"rubus backup\" of the board, and \"rubus restore\" of that, bind its writes to the layers as they are now")
	case errors.Is(err, writes.ErrNothing):
		return control.Errorf(control.KindNothing, "%v", err).WithHint("\"rubus device diff SERIAL\" shows what a board changed")
	case errors.Is(err, boot.ErrNotFound):
		return control.Errorf(control.KindNotFound, "%v", err)
	case errors.Is(err, boot.ErrRefused):
		return control.Errorf(control.KindRefused, "%v", err)
	case errors.Is(err, boot.ErrUp):
		return control.Errorf(control.KindRefused, "%v", err).
			WithHint("shut the board down and wait half a minute, or cut it off with --force")
	case errors.Is(err, writes.ErrNoSpace):
		return control.Errorf(control.KindRefused, "%v", err).
			WithHint("\"rubus df\" shows what takes the space, \"rubus image gc\" and \"rubus device snapshots SERIAL --remove N\" make some")
	case errors.Is(err, boot.ErrBoots):
		return control.Errorf(control.KindBoots, "%v", err).WithHint("try again when the board runs, or is down")
	case errors.Is(err, context.DeadlineExceeded):
		return control.Errorf(control.KindBusy, "%v", err)
	}
	return err
}

func boardOf(s boot.Status) control.Board {
	b := control.Board{
		Serial: s.Serial, Name: s.Name, Image: s.Wanted, Running: s.Running, Available: s.Available,
		Phase: string(s.Phase), Since: s.Since, Up: string(s.Up), MAC: s.MAC, Address: s.Address,
		Overlay: string(config.Persistent), Enabled: s.Enabled, Listed: s.Listed, Path: s.Path,
		Calls: s.Calls, BytesRead: s.BytesRead, BytesWritten: s.BytesWritten, Problem: s.Problem, Refusal: s.Refusal,
	}
	b.Move = moveOf(s.Move)
	b.Boot = control.Boot{
		ID: s.Boot.ID, LastGood: s.Boot.LastGood, Why: s.Boot.Why, Kernels: s.Boot.Kernels, Releases: s.Boot.Releases,
		Reports: s.Boot.Reports, Good: s.Boot.Good, Failures: s.Boot.Failures, Warnings: s.Boot.Warnings,
	}
	if q := s.Quota; q != nil {
		b.Quota = &control.Quota{
			LimitBytes: q.Limit.Bytes, LimitFiles: q.Limit.Files, UsedBytes: q.Used.Bytes, UsedFiles: q.Used.Files,
			Way: string(q.Way), Counting: !q.Known, Full: q.Full,
		}
	}
	if s.Ephemeral {
		b.Overlay = string(config.Ephemeral)
	}
	if s.Export != 0 {
		b.Export = s.Export.String()
	}
	return b
}

package writes

import (
	"context"
	"os"
	"path/filepath"

	"rubus/boot/record"
	"rubus/overlay"
)

// HandOver gives all that is kept of the board to another, whose record this is from then on,
// and which has nothing. The record says first whose it will be, and said is called; then the
// directory is renamed. A crash in between is finished by FinishReplaces.
func (b Board) HandOver(rec *record.Record, said func()) error {
	from, to := b.paths(), record.PathsOf(b.State, rec.Serial)
	if err := record.SaveIn(from.Dir(), rec); err != nil {
		return err
	}
	said()
	if err := os.Rename(from.Dir(), to.Dir()); err != nil {
		return err
	}
	if err := record.SyncDirs(filepath.Dir(to.Dir())); err != nil {
		return err
	}
	_ = os.Remove(from.Roots()) // empty: all is unmounted
	return nil
}

// MoveIn makes a directory, which has a record of the board's, all that is kept of it.
func (b Board) MoveIn(dir string) error {
	to := b.paths().Dir()
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	return record.SyncDirs(filepath.Dir(to), filepath.Dir(dir))
}

// Discard removes all that is kept of the board. It blocks while it removes files.
func (b Board) Discard(ctx context.Context) error {
	dir := b.paths().Dir()
	devices := filepath.Dir(dir)
	u := overlay.Uppers{Dir: devices, Serial: b.Serial}
	if err := u.Sweep(ctx); err != nil { // of one that was cut short
		return err
	}
	if err := os.Rename(dir, filepath.Join(devices, ".trash-"+b.Serial.String())); err != nil {
		return err
	}
	return u.Sweep(ctx)
}

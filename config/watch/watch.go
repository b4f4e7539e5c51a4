// Package watch says when one of some configuration files has changed.
package watch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"rubus/config"

	"github.com/fsnotify/fsnotify"
)

// Settle is how long a Watcher waits after the last event before it looks: an
// editor's save is several events.
const Settle = 300 * time.Millisecond

// Watcher notices that one of a few files has other content than before, in
// whichever way it came there: written in place, renamed over the name,
// removed, or by a symbolic link on the way to it that now leads elsewhere.
// Make one with New.
type Watcher struct {
	files  []string
	settle time.Duration
	log    *slog.Logger
	fs     *fsnotify.Watcher
	dirs   map[string]bool
	seen   map[string][sha256.Size]byte
}

// New begins to watch: a change after it has returned is noticed. settle
// is Settle outside of tests. Run must be called, as it releases the watches.
func New(settle time.Duration, log *slog.Logger, files ...string) (*Watcher, error) {
	fsw, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching the configuration: %w", err)
	}
	w := &Watcher{settle: settle, log: log, fs: fsw, dirs: map[string]bool{}, seen: map[string][sha256.Size]byte{}}
	for _, f := range files {
		abs, err := filepath.Abs(f)
		if err != nil {
			fsw.Close()
			return nil, fmt.Errorf("watching %q: %w", f, err)
		}
		w.files = append(w.files, abs)
	}
	w.watch()
	w.changed()
	return w, nil
}

// Run calls changed, from this goroutine, each time the files settled with
// other content. It blocks until ctx ends, and returns nil then.
func (w *Watcher) Run(ctx context.Context, changed func()) error {
	defer w.fs.Close()
	timer := time.NewTimer(w.settle)
	timer.Stop()
	// A directory in which something is always written must not put off the
	// look forever.
	var latest time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.fs.Events:
			if !ok {
				return nil
			}
			now := time.Now()
			if latest.IsZero() {
				latest = now.Add(10 * w.settle)
			}
			timer.Reset(min(w.settle, latest.Sub(now)))
		case err, ok := <-w.fs.Errors:
			if !ok {
				return nil
			}
			// Events were lost, or a watch was: look once, as if all had changed.
			w.log.Warn("watching the configuration", "err", err)
			timer.Reset(w.settle)
		case <-timer.C:
			latest = time.Time{}
			w.watch()
			if w.changed() {
				changed()
			}
		}
	}
}

// changed says whether a file has other content than at the last call.
func (w *Watcher) changed() bool {
	any := false
	for _, f := range w.files {
		sum := fingerprint(f)
		if old, ok := w.seen[f]; !ok || old != sum {
			any = true
		}
		w.seen[f] = sum
	}
	return any
}

// fingerprint stands for what LoadFile gives: the content, or the error.
func fingerprint(name string) [sha256.Size]byte {
	f, err := config.LoadFile(name)
	if err != nil {
		return sha256.Sum256([]byte("error: " + err.Error()))
	}
	return sha256.Sum256(append([]byte("data: "), f.Data...))
}

// watch keeps a watch on every directory in which a name on the way to a file
// stands. Watches are on directories, not on files: a save by rename ends the
// watch of the file that was there before.
func (w *Watcher) watch() {
	want := map[string]bool{}
	for _, f := range w.files {
		for _, dir := range linkDirs(f) {
			want[dir] = true
		}
	}
	// fsnotify drops the watch of a directory that was removed, so adding all
	// again is what makes a directory that was made anew watched.
	for dir := range want {
		if err := w.fs.Add(dir); err != nil {
			w.log.Warn("cannot watch a directory for edits; \"rubus reload\" still works", "dir", dir, "err", err)
		}
	}
	for dir := range w.dirs {
		if !want[dir] {
			// It may be gone, and its watch with it.
			_ = w.fs.Remove(dir)
		}
	}
	w.dirs = want
}

// linkDirs are the directories of a path and of each symbolic link it goes
// through; for one that does not exist, the nearest that does.
func linkDirs(path string) []string {
	var dirs []string
	for range 16 { // ELOOP comes at 40; a configuration needs 2
		dirs = append(dirs, existing(filepath.Dir(path)))
		// The directory's own name may be a link too, as ..data of a mounted
		// Kubernetes volume is.
		if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			dirs = append(dirs, linkParents(filepath.Dir(path))...)
			path = filepath.Join(real, filepath.Base(path))
			dirs = append(dirs, real)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return dirs
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return dirs
}

// linkParents are the directories in which a symbolic link stands on the way
// to dir.
func linkParents(dir string) []string {
	var out []string
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if fi, err := os.Lstat(d); err == nil && fi.Mode()&os.ModeSymlink != 0 {
			out = append(out, filepath.Dir(d))
		}
	}
	return out
}

// existing is dir or the nearest directory above it that exists.
func existing(dir string) string {
	for dir != filepath.Dir(dir) {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

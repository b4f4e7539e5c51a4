package watch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatcher(t *testing.T) {
	// Each change follows the one before, in one directory that begins with
	// /dir/devices.yaml ("one"). quiet ones must not be noticed: the next one,
	// which changes the content, shows it by being noticed once.
	for name, change := range map[string]func(t *testing.T, dir, file string){
		"written in place": func(t *testing.T, dir, file string) { write(t, file, "two") },
		"renamed over": func(t *testing.T, dir, file string) {
			write(t, file+".swp", "two")
			must(t, os.Rename(file+".swp", file))
		},
		"backup, then new": func(t *testing.T, dir, file string) {
			must(t, os.Rename(file, file+"~"))
			write(t, file, "two")
		},
		"removed": func(t *testing.T, dir, file string) { must(t, os.Remove(file)) },
		"replaced by a link": func(t *testing.T, dir, file string) {
			write(t, filepath.Join(dir, "else", "d.yaml"), "two")
			must(t, os.Symlink("else/d.yaml", file+".new"))
			must(t, os.Rename(file+".new", file))
		},
		"the directory is made anew": func(t *testing.T, dir, file string) {
			must(t, os.Rename(filepath.Dir(file), filepath.Dir(file)+".old"))
			write(t, file, "two")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "etc", "devices.yaml")
			write(t, file, "one")
			changes := startWatcher(t, file)
			change(t, dir, file)
			awaitChange(t, changes)
		})
	}
}

// TestWatcherLinks follows links as Kubernetes and dotfile managers make them,
// and a file that changes behind one, more than once.
func TestWatcherLinks(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "etc", "v1", "devices.yaml"), "one")
	write(t, filepath.Join(dir, "etc", "v2", "devices.yaml"), "two")
	must(t, os.Symlink("v1", filepath.Join(dir, "etc", "..data")))
	must(t, os.Symlink("..data/devices.yaml", filepath.Join(dir, "etc", "devices.yaml")))
	must(t, os.Symlink("../etc/devices.yaml", filepath.Join(dir, "link.yaml")))
	must(t, os.Mkdir(filepath.Join(dir, "far"), 0o755))
	must(t, os.Symlink("../etc/devices.yaml", filepath.Join(dir, "far", "devices.yaml")))
	changes := startWatcher(t, filepath.Join(dir, "far", "devices.yaml"))

	must(t, os.Symlink("v2", filepath.Join(dir, "etc", "..tmp")))
	must(t, os.Rename(filepath.Join(dir, "etc", "..tmp"), filepath.Join(dir, "etc", "..data")))
	awaitChange(t, changes)
	write(t, filepath.Join(dir, "etc", "v2", "devices.yaml"), "three")
	awaitChange(t, changes)
}

func TestWatcherIgnores(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "devices.yaml")
	write(t, file, "one")
	changes := startWatcher(t, file)
	write(t, filepath.Join(dir, "other"), "x")
	must(t, os.Chmod(file, 0o600))
	write(t, file+".same", "one")
	must(t, os.Rename(file+".same", file))
	write(t, file+".new", "two")
	must(t, os.Rename(file+".new", file))
	awaitChange(t, changes)
	select {
	case <-changes:
		t.Error("a second change was told, but there was one")
	default:
	}
}

func TestWatcherEnds(t *testing.T) {
	w, err := New(time.Millisecond, slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(), "a", "b", "devices.yaml"))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx, func() {}); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func startWatcher(t *testing.T, files ...string) <-chan struct{} {
	t.Helper()
	w, err := New(20*time.Millisecond, slog.New(slog.DiscardHandler), files...)
	must(t, err)
	changes := make(chan struct{}, 10)
	done := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- w.Run(ctx, func() { changes <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return changes
}

func awaitChange(t *testing.T, changes <-chan struct{}) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(time.Minute):
		t.Fatal("the change was not noticed")
	}
}

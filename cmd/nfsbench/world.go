package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Sizes of what is served.
const (
	bigFile     = 64 << 20 // read
	writtenFile = 16 << 20 // one for each connection
	smallFiles  = 64
	listed      = 1000 // entries of the directory that is listed
)

// world is the overlay that all servers serve, in turn.
type world struct{ root string }

// newWorld fills a lower below dir and mounts an overlay as a board's root is.
func newWorld(dir string) (*world, error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"lower/etc", "lower/list", "upper", "work", "root"} {
		if err := os.MkdirAll(path(d), 0o755); err != nil {
			return nil, err
		}
	}
	data := bytes.Repeat([]byte("golden! "), bigFile/8)
	files := map[string][]byte{"lower/big": data}
	for i := range smallFiles {
		files["lower/etc/"+small(i)] = data[:4096]
	}
	for i := range listed {
		files[fmt.Sprintf("lower/list/entry-%04d", i)] = nil
	}
	for name, b := range files {
		if err := os.WriteFile(path(name), b, 0o644); err != nil {
			return nil, err
		}
	}
	w := &world{root: path("root")}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,nfs_export=on,index=on", path("lower"), path("upper"), path("work"))
	if err := unix.Mount("overlay", w.root, "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return nil, fmt.Errorf("mounting an overlay (root is needed): %w", err)
	}
	return w, nil
}

func small(i int) string { return fmt.Sprintf("file-%02d.conf", i) }

// madeDir is the directory in which connection i of a run writes and makes files.
func madeDir(run, i int) string { return fmt.Sprintf("made-%d-%d", run, i) }

// prepare makes what a run needs, before its server looks.
func (w *world) prepare(run, conns int) error {
	for i := range conns {
		dir := filepath.Join(w.root, madeDir(run, i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "written"), make([]byte, writtenFile), 0o644); err != nil {
			return err
		}
	}
	unix.Sync() // what the run before left is not this one's to write
	return nil
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of what is served.
const (
	bigFile     = 64 << 20 // read
	writtenFile = 16 << 20 // one for each connection
	smallFiles  = 64
	listed      = 1000 // entries of the directory that is listed over and over
	listedOnce  = 192  // directories that are listed once, by each load
	ownOnce     = 32   // more of them, for ownCalls
	onceEntries = 100
)

// world is the overlay that a server serves: a new one for each, on a disk of its
// own, so that none pays for what the one before left behind (ext4 looks for inodes
// among those that were removed of late).
type world struct {
	disk, root string
	next       string // another board's root over the same lower
	big        string // a lower file
}

// newWorld makes a file system in dir, fills a lower in it, and mounts an overlay
// as a board's root is. Each of conns connections gets a directory to write in.
func newWorld(dir string, conns int) (w *world, err error) {
	w = &world{disk: filepath.Join(dir, "disk")}
	image := filepath.Join(dir, "image")
	if err := os.Mkdir(w.disk, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	for _, args := range [][]string{
		{"truncate", "--size=2G", image},
		{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image},
		{"mount", "-o", "loop", image, w.disk},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return w, fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	path := func(name string) string { return filepath.Join(w.disk, name) }
	w.root, w.next, w.big = path("root"), path("next"), path("lower/big")
	dirs := []string{"lower/etc", "lower/list", "upper", "work", "root", "upper-next", "work-next", "next"}
	for i := range 2*listedOnce + ownOnce {
		dirs = append(dirs, "lower/"+onceDir(i))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(path(d), 0o755); err != nil {
			return w, err
		}
	}
	data := bytes.Repeat([]byte("golden! "), bigFile/8)
	files := map[string][]byte{"lower/big": data}
	for i := range smallFiles {
		files["lower/etc/"+small(i)] = data[:4096]
	}
	for i := range listed {
		files["lower/list/"+listedEntry(i)] = nil
	}
	for i := range 2*listedOnce + ownOnce {
		for k := range onceEntries {
			files["lower/"+onceDir(i)+"/"+onceEntry(i, k)] = nil
		}
	}
	golden := time.Now().Add(-24 * time.Hour)
	for name, b := range files {
		if err := os.WriteFile(path(name), b, 0o644); err != nil {
			return w, err
		}
		if err := os.Chtimes(path(name), golden, golden); err != nil { // when the image was made
			return w, err
		}
	}
	for root, of := range map[string]string{w.root: "", w.next: "-next"} {
		opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,nfs_export=on,index=on", path("lower"), path("upper"+of), path("work"+of))
		if err := unix.Mount("overlay", root, "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
			return w, fmt.Errorf("mounting an overlay (root is needed): %w", err)
		}
	}
	for i := range mostWriters() {
		if err := writeAsNFS(filepath.Join(w.root, syncedFile(i)), data[:syncedLen]); err != nil {
			return w, err
		}
	}
	for i := range conns {
		if err := os.Mkdir(filepath.Join(w.root, madeDir(i)), 0o755); err != nil {
			return w, err
		}
		if err := writeAsNFS(filepath.Join(w.root, madeDir(i), "written"), data[:writtenFile]); err != nil {
			return w, err
		}
	}
	unix.Sync() // what is written now is the server's
	return w, nil
}

// writeAsNFS makes a file as an NFS client's writes make it. The kernel keeps it in
// memory in pieces of the size in which it was written, and goes through all blocks of
// a piece at each later write to it.
func writeAsNFS(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for off := 0; off < len(data) && err == nil; off += 128 * kib {
		_, err = f.Write(data[off : off+128*kib])
	}
	return errors.Join(err, f.Close())
}

// close unmounts and removes it all.
func (w *world) close() {
	_ = unix.Unmount(w.root, 0)
	_ = unix.Unmount(w.next, 0)
	_ = unix.Unmount(w.disk, 0)
	_ = os.RemoveAll(filepath.Dir(w.disk) + "/image")
	_ = os.Remove(w.disk)
}

// onceDir is one of the directories that are listed once.
func onceDir(i int) string { return fmt.Sprintf("once-%02d", i) }

func onceEntry(i, k int) string { return fmt.Sprintf("entry-%03d-%03d", i, k) }

func listedEntry(i int) string { return fmt.Sprintf("entry-%04d", i) }

// madeDir is the directory in which connection i writes and makes files.
func madeDir(i int) string { return fmt.Sprintf("made-%d", i) }

// syncedFile is the file whose writer brings each WRITE to disk.
func syncedFile(i int) string { return fmt.Sprintf("synced-%d", i) }

func small(i int) string { return fmt.Sprintf("file-%02d.conf", i) }

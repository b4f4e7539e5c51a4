package editor

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"rubus/images"
)

// forget removes from an upper that the policy, which the image has not got, was removed; and the ssh
// host keys that a package made: all boards would have them, and whoever has the image.
func forget(s spec, o Options) error {
	root, err := os.OpenRoot(s.Upper)
	if err != nil {
		return err
	}
	defer root.Close()
	if st, err := root.Lstat(policy); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && st.Mode()&fs.ModeCharDevice != 0 && sys.Rdev == 0 {
			if err := root.Remove(policy); err != nil {
				return err
			}
		}
	}
	if s.Extract != "" {
		return nil // who copies keys means them
	}
	keys, err := fs.Glob(root.FS(), "etc/ssh/ssh_host_*_key*")
	if err != nil {
		return err
	}
	below, made := images.Merged(s.Lower), 0
	for _, key := range keys {
		if _, err := fs.Stat(below, key); err == nil {
			continue
		}
		if st, err := root.Lstat(key); err != nil || !st.Mode().IsRegular() {
			continue
		}
		if err := root.Remove(key); err != nil {
			return err
		}
		made++
	}
	if made > 0 {
		fmt.Fprintln(o.Stderr, "rubus: note: the ssh host keys that were made are left out: each board has its own")
	}
	if n := fetched(root.FS()); n > worthSaying {
		fmt.Fprintf(o.Stderr, "rubus: note: %d MiB of what was written are lists and archives of packages: \"rm -rf /var/lib/apt/lists/* /var/cache/apt/*\" as the last command leaves them out\n", n>>20)
	}
	return nil
}

// worthSaying is how much of packages' lists and archives is noted, in bytes.
const worthSaying = 16 << 20

// fetched is how much of an upper apt has fetched and needs no more.
func fetched(upper fs.FS) (n int64) {
	for _, dir := range []string{"var/lib/apt/lists", "var/cache/apt"} {
		// What can't be read is not counted: it is for a note.
		_ = fs.WalkDir(upper, dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return fs.SkipDir
			}
			if st, err := d.Info(); err == nil && st.Mode().IsRegular() {
				n += st.Size()
			}
			return nil
		})
	}
	return n
}

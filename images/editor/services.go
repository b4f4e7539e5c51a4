package editor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"rubus/images"
	"rubus/images/importer"
)

// policy is what Debian's package scripts ask before they start or stop a service, by invoke-rc.d and
// deb-systemd-invoke: 101 is no.
const (
	policy     = "usr/sbin/policy-rc.d"
	policyText = "#!/bin/sh\n# Services of an image that is edited are not started.\nexit 101\n"
)

// withoutServices makes, in dir, a layer that lies on top of what the command sees and becomes part of
// no version: with it a package that is installed does not start its services. They would run
// on the host's network: a DHCP server, say, beside ours. "" when the image is not Debian's, or has
// a policy of its own.
func withoutServices(dir string, lower []string) (string, error) {
	below := images.Merged(lower)
	if _, err := fs.Stat(below, "usr/sbin/invoke-rc.d"); err != nil {
		return "", nil
	}
	if _, err := fs.Stat(below, policy); err == nil {
		return "", nil
	}
	layer := filepath.Join(dir, "services")
	// The inner ones first: what is put into a directory changes its time.
	dirs := []string{"usr/sbin", "usr", ""}
	if err := os.MkdirAll(filepath.Join(layer, dirs[0]), 0o700); err != nil {
		return "", err
	}
	p := filepath.Join(layer, policy)
	if err := errors.Join(os.WriteFile(p, []byte(policyText), 0o755), os.Chmod(p, 0o755)); err != nil {
		return "", err
	}
	for _, d := range dirs {
		is, err := importer.Like(filepath.Join(layer, d), lower, d)
		if err != nil {
			return "", fmt.Errorf("keeping services from being started: %w", err)
		}
		if !is {
			return "", nil // a link: this layer would hide it
		}
	}
	return layer, nil
}

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
	return nil
}

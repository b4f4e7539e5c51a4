package editor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

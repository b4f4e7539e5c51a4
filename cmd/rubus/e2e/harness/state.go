package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rubus/boot/record"
	"rubus/config/device"
)

// Record is a board's device.json in a state directory.
func Record(state string, s device.Serial) (r record.Record, err error) {
	b, err := os.ReadFile(filepath.Join(state, "devices", s.String(), "device.json"))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

// MountPoints lists the mounts at dir and below it in the order they were made.
func MountPoints(dir string) ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
}

// UnmountBelow ends all mounts at dir and below it, the newest first.
func UnmountBelow(dir string) error {
	points, err := MountPoints(dir)
	if err != nil {
		return err
	}
	var errs []error
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i].Mountpoint, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %q: %w", points[i].Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

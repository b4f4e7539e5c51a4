package writes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"rubus/boot/record"
	"rubus/config/device"
	"rubus/overlay"
)

// ErrServed: a board may write although no daemon runs.
var ErrServed = errors.New("the kernel's NFS server offers the board's root while no daemon runs, too: it may write")

// Unserved makes sure that a board cannot write while no daemon runs. Our own server went
// with the daemon, the kernel's goes on for as long as the root is mounted. The error wraps ErrServed.
func Unserved(state string, serial device.Serial) error {
	by, err := os.ReadFile(record.BackendFile(state))
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(by)) != record.KernelServes {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading which NFS server was the last: %w", err)
	}
	rec, err := record.Load(state, serial)
	if err != nil || !rec.MayBeUp() {
		return err
	}
	roots, err := overlay.Mounted()
	if err != nil {
		return err
	}
	for _, r := range roots {
		if r.Serial == serial {
			return fmt.Errorf("board %s: %w", serial, ErrServed)
		}
	}
	return nil
}

package cli

import (
	"errors"

	"rubus/boot/writes"
	"rubus/cmd/internal/control"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
)

// LockState makes sure, where no daemon answers, that none runs on a state directory and that
// none starts until release is called.
func LockState(state string) (release func(), err error) {
	release, err = control.Lock(state)
	if err != nil {
		return nil, ui.Hint(err, "a daemon runs on this state, and does not answer: is --run right?")
	}
	return release, nil
}

// StillBoard is LockState for who reads what a board wrote: it makes sure that the board
// writes nothing meanwhile.
func StillBoard(state string, serial device.Serial) (release func(), err error) {
	release, err = LockState(state)
	if err != nil {
		return nil, err
	}
	if err := writes.Unserved(state, serial); err != nil {
		release()
		if errors.Is(err, writes.ErrServed) {
			err = ui.Hint(err, "start the daemon, which has the board wait; or shut the board down, and stop the host's NFS server")
		}
		return nil, err
	}
	return release, nil
}

package boot

import "rubus/config/device"

// IsNeeded says that a boot or a MOUNT of a board waits for its slots.
func (f *Fleet) IsNeeded(s device.Serial) bool {
	return f.known(s).work.IsNeeded()
}

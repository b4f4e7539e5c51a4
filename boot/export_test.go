package boot

import "rubus/config/device"

// IsNeeded says that a boot or a MOUNT of a board waits for its slots.
func (f *Fleet) IsNeeded(s device.Serial) bool {
	b := f.known(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.needs != [needMount + 1]int{}
}

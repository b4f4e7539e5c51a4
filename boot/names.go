package boot

import (
	"strings"
	"sync"

	"rubus/config/device"
)

// naming has the host names that boards take for themselves just now, in lower case:
// what they are called at last is on record.
type naming struct {
	mu     sync.Mutex
	claims map[string]device.Serial
}

// claimName takes a host name that a board gave itself for it, until releaseNames; other is the
// board that has it already, "" none. devices.yaml is asked first, then what boards were
// given last.
func (f *Fleet) claimName(b *board, name string) (other string) {
	f.mu.Lock()
	desired := f.desired
	var others []device.Serial
	for s := range f.boards {
		if s != b.serial {
			others = append(others, s)
		}
	}
	f.mu.Unlock()
	if desired != nil {
		for s, d := range desired.Devices {
			if s != b.serial && d.Identity != nil && strings.EqualFold(d.Identity.Hostname, name) {
				return s.String()
			}
		}
	}
	f.naming.mu.Lock()
	defer f.naming.mu.Unlock()
	key := strings.ToLower(name)
	if s, taken := f.naming.claims[key]; taken && s != b.serial {
		return s.String()
	}
	f.naming.claims[key] = b.serial
	if g, err := IdentityStore(f.opt.State, b.serial).Given(); err == nil && g.KnowsName && strings.EqualFold(g.Hostname, name) {
		return "" // it was made sure of when the board was given it
	}
	for _, s := range others {
		// A record that cannot be read is that board's problem.
		if g, err := IdentityStore(f.opt.State, s).Given(); err == nil && strings.EqualFold(g.Hostname, name) {
			return s.String()
		}
	}
	return ""
}

// releaseNames gives up what claimName took: it is on record by now.
func (f *Fleet) releaseNames(b *board) {
	f.naming.mu.Lock()
	defer f.naming.mu.Unlock()
	for name, s := range f.naming.claims {
		if s == b.serial {
			delete(f.naming.claims, name)
		}
	}
}

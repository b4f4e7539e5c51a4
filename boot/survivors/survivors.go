// Package survivors finds the boards that may still be up while no daemon knows of any.
package survivors

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rubus/boot/record"
	"rubus/config/device"
)

// Asker asks a board for a sign of life.
type Asker interface {
	// Silent says whether it gave none. An error means that nobody can tell.
	Silent(ctx context.Context, addr netip.Addr, mac device.MAC) (bool, error)
}

// Boards asked at once, and how long one address may take.
const (
	atOnce = 32
	limit  = 10 * time.Second
)

// Find lists the boards that may be up: those that device.json says stand on
// something, and that answer when they are asked for a sign of life, or cannot be
// asked. It blocks for seconds.
func Find(ctx context.Context, state string, a Asker) ([]device.Serial, error) {
	serials, err := record.Serials(state)
	if err != nil {
		return nil, err
	}
	up := make([]bool, len(serials))
	asking := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i, s := range serials {
		wait.Go(func() {
			asking <- struct{}{}
			defer func() { <-asking }()
			up[i] = mayBeUp(ctx, state, s, a)
		})
	}
	wait.Wait()
	var out []device.Serial
	for i, s := range serials {
		if up[i] {
			out = append(out, s)
		}
	}
	return out, nil
}

func mayBeUp(ctx context.Context, state string, serial device.Serial, a Asker) bool {
	rec, err := record.Load(state, serial)
	if err != nil {
		return true
	}
	if !rec.MayBeUp() {
		return false
	}
	addrs := []netip.Addr{rec.Address}
	for _, s := range rec.Slots {
		addrs = append(addrs, s.Awaits...)
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !a.IsValid() })
	for _, addr := range addrs {
		ctx, cancel := context.WithTimeout(ctx, limit)
		silent, err := a.Silent(ctx, addr, rec.MAC)
		cancel()
		if err != nil || !silent {
			return true
		}
	}
	return len(addrs) == 0
}

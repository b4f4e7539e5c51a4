package boot

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// addressChecks are the addresses that are asked for at once: a part of those that neigh
// asks for, as new connections want to know addresses, too.
const addressChecks = 8

// checkAddresses takes the address from boards that called lately when the neighbour
// table now gives it to another MAC. An address that nobody has any more takes a second
// to find out: after a power cut that is a whole rack's, and the boards that are left
// do not wait for one after the other.
func (f *Fleet) checkAddresses(ctx context.Context, boards []*board) {
	var g errgroup.Group
	g.SetLimit(addressChecks)
	now := f.opt.Now()
	for _, b := range boards {
		rec := b.record()
		if rec.MAC.IsZero() || !rec.Address.IsValid() || now.Sub(b.evidence().LastCall) > f.opt.Limits.Call || !f.opt.Neighbours.OnLink(rec.Address) {
			continue
		}
		g.Go(func() error {
			if mac, ok := f.opt.Neighbours.Owner(ctx, rec.Address); ok && mac != rec.MAC {
				f.unbind(b, rec.Address)
			}
			return nil
		})
	}
	_ = g.Wait() // they have no errors
}

package boot

import (
	"context"

	"rubus/boot/quota"
	"rubus/boot/record"
	"rubus/nfsexport"
)

// quotaOf is the quota of a slot whose root is mounted, with the limit of its board.
func (f *Fleet) quotaOf(b *board, s record.Slot, upperDir string) *nfsexport.Quota {
	q := f.quotas.Open(s.Export, upperDir)
	f.limit(b, s)
	return q
}

// limit holds a slot to what its board may have now. A board that has no entry any
// more is held to what it had.
func (f *Fleet) limit(b *board, s record.Slot) {
	dev := f.wanted(b.serial)
	if dev == nil {
		return
	}
	if err := f.quotas.Limit(s.Export, dev.Quota); err != nil {
		f.log.Error("a board's quota cannot be set", "serial", b.serial, "root", s.N, "err", err)
	}
}

// limitAll holds every root to what its board may have now.
func (f *Fleet) limitAll() {
	for _, b := range f.all() {
		for _, s := range b.slots() {
			f.limit(b, s)
		}
	}
}

// CountQuotas counts what boards have where that is due, as Run does.
func (f *Fleet) CountQuotas(ctx context.Context) { f.quotas.CountDue(ctx) }

// Quota is what a board's root has and may have; nil: it has no root, or no limit.
func (f *Fleet) quotaUse(s *record.Slot) *quota.Use {
	if s == nil {
		return nil
	}
	if u, ok := f.quotas.Use(s.Export); ok {
		return &u
	}
	return nil
}

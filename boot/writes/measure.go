package writes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"rubus/boot/record"
	"rubus/images/imageref"
)

// UpperInfo is what a reset would delete of one upper.
type UpperInfo struct {
	Upper string           `json:"upper"`
	State record.SlotState `json:"state"`
	Image imageref.Ref     `json:"image"`
	Bytes int64            `json:"bytes"`
	Files int64            `json:"files"`
	Made  time.Time        `json:"made"`
}

// Measure lists the board's uppers with their sizes: those of its slots first, then those
// that no slot names. It reads whole trees.
func (b Board) Measure(ctx context.Context, slots []record.Slot) ([]UpperInfo, error) {
	var out []UpperInfo
	for _, s := range slots {
		u, err := b.Uppers().Usage(ctx, s.UpperID())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("measuring upper %q of board %s: %w", s.UpperID(), b.Serial, err)
		}
		out = append(out, UpperInfo{Upper: string(s.UpperID()), State: s.State, Image: s.Image, Bytes: u.Bytes, Files: u.Files, Made: s.Made})
	}
	ids, err := b.Uppers().List()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if SlotOf(slots, id) != nil {
			continue
		}
		u, err := b.Uppers().Usage(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("measuring upper %q of board %s: %w", id, b.Serial, err)
		}
		out = append(out, UpperInfo{Upper: string(id), State: "unlisted", Bytes: u.Bytes, Files: u.Files})
	}
	return out, nil
}

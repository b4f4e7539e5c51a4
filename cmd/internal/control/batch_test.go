package control

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"rubus/boot/batch"
	"rubus/config/device"
	"rubus/images/imageref"
)

func (f *fake) Rebase(_ context.Context, o Rebase, tell func(Progress)) (batch.Batch, error) {
	tell(Progress{Bytes: 1})
	f.note("rebase %d %s %q %d", len(o.Boards), o.Image, o.Conflicts, o.First)
	return batch.Batch{N: 4, To: o.Image, Members: []batch.Member{{Serial: o.Boards[0], State: "trial"}}}, f.err
}

func (f *fake) UndoBatch(_ context.Context, n int, _ func(Progress)) (batch.Batch, error) {
	f.note("undo %d", n)
	return batch.Batch{N: n}, f.err
}

func (f *fake) ReleaseBatch(_ context.Context, n int) (batch.Batch, error) {
	f.note("release %d", n)
	return batch.Batch{N: n}, f.err
}

// TestBatches: what is asked of batches arrives, of thousands of boards too, and so do the answers.
func TestBatches(t *testing.T) {
	var boards []device.Serial
	for i := range 4000 {
		s, err := device.ParseSerial(fmt.Sprintf("%08x", i+1))
		if err != nil {
			t.Fatal(err)
		}
		boards = append(boards, s)
	}
	f := &fake{}
	c, _, end := start(t, f)
	told := 0
	b, err := c.Rebase(t.Context(), Rebase{Boards: boards, Image: imageref.Ref{Name: "lab", Version: 2}, Conflicts: "board", First: 3}, func(Progress) { told++ })
	if err != nil || told != 1 || b.N != 4 || b.To.String() != "lab@2" || b.Members[0].Serial != boards[0] {
		t.Errorf("%+v, %v, told %d times", b, err, told)
	}
	if b, err := c.UndoBatch(t.Context(), 4, nil); err != nil || b.N != 4 {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err := c.ReleaseBatch(t.Context(), 5); err != nil || b.N != 5 {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := c.ReleaseBatch(t.Context(), -1); err == nil {
		t.Error("there is a batch of number -1")
	}
	end()
	if want := []string{`rebase 4000 lab@2 "board" 3`, "undo 4", "release 5"}; !slices.Equal(f.calls, want) {
		t.Errorf("asked %q", f.calls)
	}
}

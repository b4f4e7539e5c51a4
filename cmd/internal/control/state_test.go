package control

import (
	"context"
	"errors"
	"testing"
	"time"

	"rubus/config/device"
)

// Snapshot tells of some progress and then ends as the test wants.
func (f *fake) Snapshot(_ context.Context, s device.Serial, note string, keep time.Duration, tell func(Progress)) (Snapshot, error) {
	tell(Progress{Bytes: 1, Files: 2})
	tell(Progress{Bytes: 3, Total: 3, Files: 4})
	f.note("snapshot %s %q %s", s, note, keep)
	return Snapshot{N: 7, Note: note}, f.err
}

// TestJob: long work tells how far it is, and then its answer or its error.
func TestJob(t *testing.T) {
	serial, err := device.ParseSerial("5b154510")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"answer": nil, "error": Errorf(KindRefused, "not now").WithHint("later")} {
		f := &fake{err: want}
		c, _, end := start(t, f)
		var told []Progress
		s, err := c.Snapshot(t.Context(), serial, "a note", time.Hour, func(p Progress) { told = append(told, p) })
		if len(told) != 2 || told[1] != (Progress{Bytes: 3, Total: 3, Files: 4}) {
			t.Errorf("%s: told %+v", name, told)
		}
		if want == nil && (err != nil || s.N != 7 || s.Note != "a note") {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		var e *Error
		if want != nil && (!errors.As(err, &e) || e.Kind != KindRefused || e.Hint() != "later") {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		end()
		if len(f.calls) != 1 || f.calls[0] != `snapshot 5b154510 "a note" 1h0m0s` {
			t.Errorf("%s: %q", name, f.calls)
		}
	}
}

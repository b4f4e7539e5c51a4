package showcmd

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"rubus/boot/flight"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/control"
)

// What was heard until the Ctrl-C is shown, and so is what a boot had left to say when
// the next one began.
func TestFollow(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	boots := map[int]*control.BootLog{}
	latest := 0
	say := func(n int, text string) {
		if boots[n] == nil {
			boots[n], latest = &control.BootLog{Timeline: flight.Timeline{N: n}}, n
		}
		boots[n].Timeline.Events = append(boots[n].Timeline.Events, flight.Event{Kind: flight.Warned, Text: text})
	}
	f := follower{
		g: cli.New(func(string) string { return "" }, strings.NewReader(""), &out, io.Discard),
		ask: func(ctx context.Context, n int) (control.BootLog, error) {
			if n == 0 {
				n = latest
			}
			return *boots[n], ctx.Err()
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	say(1, "first")
	if err := f.round(ctx); err != nil {
		t.Fatal(err)
	}
	say(1, "the last of the first")
	say(2, "second")
	if err := f.round(ctx); err != nil {
		t.Fatal(err)
	}
	say(2, "the last of all")
	cancel()
	if err := f.run(ctx, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"first", "the last of the first", "second", "the last of all"}
	var got []string
	for line := range strings.Lines(out.String()) {
		if _, text, ok := strings.Cut(strings.TrimSpace(line), "warning: "); ok {
			got = append(got, text)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("shown are %q, want %q:\n%s", got, want, out.String())
	}
}

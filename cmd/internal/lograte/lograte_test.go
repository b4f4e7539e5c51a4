package lograte_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"rubus/cmd/internal/lograte"
)

// plain writes lines without their times.
func plain(buf *bytes.Buffer) slog.Handler {
	return slog.NewTextHandler(buf, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func TestLimit(t *testing.T) {
	var buf bytes.Buffer
	h := lograte.New(plain(&buf), lograte.Limit{PerSecond: 1, Burst: 2, Except: []string{"control"}})
	start := time.Unix(1_000_000, 0)
	say := func(after time.Duration, message string, from int) {
		r := slog.NewRecord(start.Add(after), slog.LevelInfo, message, 0)
		r.AddAttrs(slog.Int("from", from))
		// A logger of its own each time: the count is the message's.
		if err := h.WithAttrs([]slog.Attr{slog.String("via", "with")}).Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		say(0, "refused", i)
		say(0, "control", i)
	}
	say(0, "mounted", 0)
	say(time.Second, "refused", 5)
	say(time.Second, "refused", 6)
	say(10*time.Second, "refused", 7)
	say(10*time.Second, "refused", 8)

	var want strings.Builder
	line := func(message string, from int, more string) {
		fmt.Fprintf(&want, "level=INFO msg=%s via=with from=%d%s\n", message, from, more)
	}
	line("refused", 0, "")
	line("control", 0, "")
	line("refused", 1, "")
	for i := range 4 {
		line("control", i+1, "")
	}
	line("mounted", 0, "")
	line("refused", 5, " suppressed=3")
	line("refused", 7, " suppressed=1")
	line("refused", 8, "")
	if got := buf.String(); got != want.String() {
		t.Errorf("logged:\n%s\nwant:\n%s", got, want.String())
	}
}

// It is a handler like others.
func TestHandler(t *testing.T) {
	var buf bytes.Buffer
	h := lograte.New(slog.NewJSONHandler(&buf, nil), lograte.Limit{PerSecond: 1, Burst: 1000})
	slogtest.Run(t, func(*testing.T) slog.Handler { buf.Reset(); return h }, func(t *testing.T) map[string]any {
		return decode(t, buf.Bytes())
	})
}

func decode(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return m
}

package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 15 << 20: "15 MiB", 999 << 20: "999 MiB", 1 << 50: "1024 TiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

// Which of several things it is is said in the place of bytes.
func TestOf(t *testing.T) {
	if got := (State{Phase: "comparing", Of: "board 3 of 16", Done: 7}).String(); got != "comparing board 3 of 16" {
		t.Errorf("%q", got)
	}
}

func TestLines(t *testing.T) {
	now := time.Unix(0, 0)
	var out bytes.Buffer
	l := &Lines{W: &out, Prefix: "x: ", Every: 5 * time.Second, Now: func() time.Time { return now }}
	step := func(d time.Duration, s State) {
		now = now.Add(d)
		l.Update(s)
	}
	step(0, State{Phase: "reading"})
	step(time.Second, State{Phase: "reading", Done: 1 << 20})
	step(5*time.Second, State{Phase: "reading", Done: 2 << 20, Files: 7})
	step(time.Second, State{Phase: "reading", Done: 3 << 20})
	step(5*time.Second, State{Phase: "reading", Done: 3 << 20, Total: 4 << 20, Files: 9})
	step(time.Second, State{Phase: "syncing", Done: 4 << 20, Total: 4 << 20, Files: 10})
	l.End()
	// What is short says nothing.
	l = &Lines{W: &out, Every: time.Second, Now: l.Now}
	step(0, State{Phase: "reading"})
	step(time.Second/2, State{Phase: "syncing", Done: 1})
	const want = `x: reading 2.0 MiB, 7 files
x: reading 3.0 MiB of 4.0 MiB (75%), 9 files
x: syncing 4.0 MiB of 4.0 MiB (100%), 10 files
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// What is made beside the source comes to more than was known of it.
func TestMoreThanTotal(t *testing.T) {
	if got := (State{Phase: "syncing", Done: 5 << 20, Total: 4 << 20}).String(); got != "syncing 5.0 MiB of 5.0 MiB (100%)" {
		t.Errorf("it is %q", got)
	}
}

// The bar ends when told so, whatever it was told before, and twice is once.
func TestBar(t *testing.T) {
	for name, states := range map[string][]State{
		"nothing":       nil,
		"unknown total": {{Phase: "reading", Done: 1}, {Phase: "reading", Done: 5000}},
		"whole":         {{Phase: "reading", Done: 10, Total: 10}, {Phase: "syncing", Done: 10, Total: 10}},
		"more":          {{Phase: "reading", Done: 11, Total: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			b := New(&out, true, "")
			for _, s := range states {
				b.Update(s)
			}
			b.End()
			b.End()
			b.Update(State{Phase: "late"})
			if strings.Contains(out.String(), "late") {
				t.Errorf("written after the end: %q", out.String())
			}
		})
	}
}

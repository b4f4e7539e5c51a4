package ui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

type hinter struct{}

func (hinter) Error() string { return "inner" }
func (hinter) Hint() string  { return "from inside" }

func TestReport(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
		code int
	}{
		"none":          {nil, "", ExitOK},
		"plain":         {errors.New("no luck"), "rubus: error: no luck\n", ExitError},
		"hint":          {Hint(errors.New("no luck"), "try again", "or not"), "rubus: error: no luck\nrubus: hint: try again\nrubus: hint: or not\n", ExitError},
		"usage":         {Usagef("bad %q", "x"), "rubus: error: bad \"x\"\n", ExitUsage},
		"usage, hinted": {Hint(Usagef("bad"), "h"), "rubus: error: bad\nrubus: hint: h\n", ExitUsage},
		"wrapped":       {fmt.Errorf("doing: %w", Usage(errors.New("bad"), "h")), "rubus: error: doing: bad\nrubus: hint: h\n", ExitUsage},
		"joined":        {errors.Join(errors.New("a"), Hint(errors.New("b"), "h")), "rubus: error: a\nrubus: error: b\nrubus: hint: h\n", ExitError},
		"own hint":      {fmt.Errorf("outer: %w", hinter{}), "rubus: error: outer: inner\nrubus: hint: from inside\n", ExitError},
		"said once":     {Hint(hinter{}, "from inside"), "rubus: error: inner\nrubus: hint: from inside\n", ExitError},
		"silent":        {ErrSilent, "", ExitError},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			Report(&b, c.err)
			if b.String() != c.want || Code(c.err) != c.code {
				t.Errorf("got %q, exit %d; want %q, exit %d", b.String(), Code(c.err), c.want, c.code)
			}
		})
	}
	if Hint(nil, "h") != nil || Usage(nil, "h") != nil {
		t.Error("a hint without an error is an error")
	}
}

func TestConfirm(t *testing.T) {
	for in, yes := range map[string]bool{"y\n": true, "YES\n": true, " yes \n": true, "y": true, "n\n": false, "\n": false, "": false, "yup\n": false} {
		var out strings.Builder
		if err := Confirm(strings.NewReader(in), &out, "really?"); (err == nil) != yes || err != nil && !errors.Is(err, ErrDeclined) {
			t.Errorf("%q: %v", in, err)
		}
		if !strings.HasPrefix(out.String(), "really? [y/N] ") {
			t.Errorf("asked %q", out.String())
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	Table(&b, []string{"A", "LONG"}, [][]string{{"x", "y"}, {"wider", ""}})
	if want := "A      LONG\nx      y\nwider\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	b.Reset()
	long := strings.Repeat("é", 70)
	Table(&b, []string{"A", "B", "C"}, [][]string{{long, long, "c"}}, 0, 1)
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > Width {
			t.Errorf("a line of %d: %q", n, line)
		}
	}
	if !strings.Contains(b.String(), "é…  é") {
		t.Errorf("what was cut is not marked: %q", b.String())
	}
}

func TestForPeople(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "now", -time.Hour: "now", 59 * time.Second: "59s", time.Minute: "1m", 47 * time.Hour: "47h", 48 * time.Hour: "2d",
	} {
		if got := Ago(now, now.Add(-d)); got != want {
			t.Errorf("Ago(%v) = %q, want %q", d, got, want)
		}
	}
	if got := Ago(now, time.Time{}); got != "-" {
		t.Errorf("Ago(never) = %q", got)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 1<<20 - 1: "1.0 MiB", 3 << 29: "1.5 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

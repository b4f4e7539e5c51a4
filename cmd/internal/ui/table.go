package ui

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Width is how wide a table may be, in characters.
const Width = 80

// Table prints rows below a header, in columns two blanks apart. When it would
// be wider than Width, the columns in give are narrowed, first one first, down
// to the width of their header or 8 characters; what is cut ends in "…".
func Table(w io.Writer, header []string, rows [][]string, give ...int) {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	for _, i := range give {
		if cut := min(total-Width, widths[i]-max(8, utf8.RuneCountInString(header[i]))); cut > 0 {
			widths[i] -= cut
			total -= cut
		}
	}
	for _, row := range append([][]string{header}, rows...) {
		var b strings.Builder
		for i, cell := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			cell = Shorten(cell, widths[i])
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// Shorten is s, cut to n characters with "…" at its end when it is longer.
func Shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// Ago is how long ago t was, in at most 4 characters: "now", "42s", "5m",
// "23h", "365d". "-" stands for the zero time.
func Ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "-"
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// Bytes is a size for people: "0 B", "1023 B", "1.5 MiB".
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if f /= 1024; f < 1023.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

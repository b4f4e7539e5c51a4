package entrycmd

import (
	"slices"
	"strings"
)

// maxDiff bounds the lines that lineDiff compares with each other.
const maxDiff = 500

// lineDiff shows how two texts differ, from the first line that does, with its
// number, to the last: "-gone", "+come" and " same". An edit of devices.yaml
// changes a few lines that lie together.
func lineDiff(before, after []byte) (line int, diff []string) {
	a, b := splitLines(before), splitLines(after)
	line = 1
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
		line++
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	for _, l := range common(a, b) {
		i, j := slices.Index(a, l), slices.Index(b, l)
		diff = append(diff, marked("-", a[:i])...)
		diff = append(diff, marked("+", b[:j])...)
		diff = append(diff, " "+l)
		a, b = a[i+1:], b[j+1:]
	}
	return line, slices.Concat(diff, marked("-", a), marked("+", b))
}

// common is the longest sequence of lines that both have in this order.
func common(a, b []string) []string {
	if len(a) == 0 || len(b) == 0 || len(a) > maxDiff || len(b) > maxDiff {
		return nil
	}
	// n[i][j] is its length for a[i:] and b[j:].
	n := make([][]int, len(a)+1)
	for i := range n {
		n[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if n[i][j] = max(n[i+1][j], n[i][j+1]); a[i] == b[j] {
				n[i][j] = n[i+1][j+1] + 1
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			out = append(out, a[i])
			i, j = i+1, j+1
		case n[i+1][j] >= n[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out
}

func marked(mark string, lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = mark + l
	}
	return out
}

func splitLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n"), "\n")
}

package treesum

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// header is the first line of a listing.
const header = "rubus-tree-1\n"

// Write writes the listing of sorted entries to w, which may be nil, and
// returns its digest.
func Write(w io.Writer, entries []Entry) (string, error) {
	h := sha256.New()
	out := io.Writer(h)
	if w != nil {
		out = io.MultiWriter(h, w)
	}
	bw := bufio.NewWriterSize(out, 64<<10)
	bw.WriteString(header)
	var line []byte
	for i := range entries {
		line, _ = entries[i].AppendText(line[:0])
		line = append(line, '\n')
		bw.Write(line)
	}
	if err := bw.Flush(); err != nil {
		return "", fmt.Errorf("writing a listing: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Difference is how one path of two listings differs.
type Difference struct {
	// Path is escaped as in a listing.
	Path string
	// Want and Got are the lines without the path's order; "" means missing.
	Want, Got string
}

// String says in words what became of the path.
func (d Difference) String() string {
	switch {
	case d.Got == "":
		return d.Path + " is missing"
	case d.Want == "":
		return d.Path + " was added"
	}
	w, g := strings.Fields(d.Want), strings.Fields(d.Got)
	if w[0] == "f" && g[0] == "f" && (w[5] != g[5] || w[6] != g[6]) {
		return d.Path + " has other content"
	}
	return d.Path + " has other attributes"
}

// Diff compares two listings and returns at most limit differences.
func Diff(want, got io.Reader, limit int) ([]Difference, error) {
	a, b := newLines(want), newLines(got)
	var out []Difference
	for len(out) < limit && (a.path != nil || b.path != nil) {
		switch c := compare(a, b); {
		case c < 0:
			out = append(out, Difference{Path: *a.path, Want: a.line})
			a.next()
		case c > 0:
			out = append(out, Difference{Path: *b.path, Got: b.line})
			b.next()
		default:
			if a.line != b.line {
				out = append(out, Difference{Path: *a.path, Want: a.line, Got: b.line})
			}
			a.next()
			b.next()
		}
	}
	if a.err != nil {
		return out, a.err
	}
	return out, b.err
}

func compare(a, b *lines) int {
	switch {
	case a.path == nil:
		return 1
	case b.path == nil:
		return -1
	}
	return cmp.Compare(unescape(*a.path), unescape(*b.path))
}

// lines steps through a listing; path is nil at its end.
type lines struct {
	s    *bufio.Scanner
	line string
	path *string
	err  error
}

func newLines(r io.Reader) *lines {
	l := &lines{s: bufio.NewScanner(r)}
	// Attributes of 64 KiB each, in hex, make long lines.
	l.s.Buffer(make([]byte, 0, 64<<10), 16<<20)
	if !l.s.Scan() || l.s.Text()+"\n" != header {
		l.err = cmp.Or(l.s.Err(), fmt.Errorf("this is no listing of a tree: it doesn't begin with %q", strings.TrimSpace(header)))
		return l
	}
	l.next()
	return l
}

func (l *lines) next() {
	l.path = nil
	if !l.s.Scan() {
		l.err = l.s.Err()
		return
	}
	l.line = l.s.Text()
	f := strings.Fields(l.line)
	at := map[string]int{"h": 1, "f": 7, "c": 6, "b": 6}
	i, ok := at[first(f)]
	if !ok {
		i = 5
	}
	if i >= len(f) {
		l.err = fmt.Errorf("a listing has a line of %d fields", len(f))
		return
	}
	l.path = &f[i]
}

func first(f []string) string {
	if len(f) == 0 {
		return ""
	}
	return f[0]
}

// unescape gives the bytes of a path, by which listings are ordered.
func unescape(s string) string {
	if s == "." {
		return ""
	}
	if !strings.Contains(s, `\x`) {
		return s
	}
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := hex.DecodeString(s[i+2 : i+4]); err == nil {
				out = append(out, c...)
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

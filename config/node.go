package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MaxFile is the largest file that is read, in bytes: some 30,000 devices.
const MaxFile = 4 << 20

const (
	// extraNodes bounds what a file may become when its aliases are written out:
	// a node has a byte at least and is looked at four times at most, so a file
	// without aliases never gets there.
	extraNodes = 1 << 16
	// maxMerges bounds how deep merges ("<<") may nest.
	maxMerges = 8
)

// reader walks the nodes of one YAML file and gathers all that is wrong.
// yaml.v3 decodes into structs only without lines, stops at no unknown key of
// a nested node and turns the serial 10000e12 into a float: so nodes are read.
type reader struct {
	file     string
	problems Problems
	// nodes counts the nodes that were looked at; after limit nothing more is
	// read, and nothing more told.
	nodes, limit int
	// said keeps a problem that is met through several aliases from being told
	// more than once.
	said map[Problem]bool
	// sync is what holds for devices that do not say: nfs.sync of rubus.yaml.
	sync bool
}

// pair is one key with its value in a mapping.
type pair struct {
	key  string
	at   *yaml.Node
	node *yaml.Node
}

func (r *reader) linef(line int, format string, a ...any) {
	p := Problem{File: r.file, Line: line, Message: fmt.Sprintf(format, a...)}
	if r.said[p] || r.nodes > r.limit+1 {
		return
	}
	if r.said == nil {
		r.said = map[Problem]bool{}
	}
	r.said[p] = true
	r.problems = append(r.problems, p)
}

func (r *reader) addf(n *yaml.Node, format string, a ...any) { r.linef(n.Line, format, a...) }

// document is the top node of the file; nil when there is none, or it is
// unreadable, which has been said then.
func (r *reader) document(data []byte) *yaml.Node {
	r.limit = extraNodes + 4*len(data)
	if len(data) > MaxFile {
		r.linef(0, "the file has %d bytes; at most %d are read", len(data), MaxFile)
		return nil
	}
	if line, what := badText(data); what != "" {
		r.linef(line, "%s", what)
		return nil
	}
	doc, err := Decode(data)
	if err != nil {
		r.linef(syntaxError(data, err))
		return nil
	}
	if doc == nil || len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// Decode parses the one document of a file; nil when it is empty.
func Decode(data []byte) (doc *yaml.Node, err error) {
	// The library reports bad input by panics of its own that it recovers; if
	// another one slips through, a daemon must not die of an edit.
	defer func() {
		if p := recover(); p != nil {
			doc, err = nil, fmt.Errorf("this YAML cannot be read: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return &first, nil
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("yaml: line %d: a second document starts here (---): want one in the file", second.Line)
}

// badText finds bytes that no file of ours has. Line breaks other than LF and
// CRLF are among them, as they would make lines count differently in editors.
func badText(data []byte) (line int, what string) {
	line = 1
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			return line, "the text is not UTF-8"
		case c == '\n':
			line++
		case c == '\r' && i+1 < len(data) && data[i+1] == '\n', c == '\t':
		case isControl(c):
			return line, fmt.Sprintf("the control character %U may not stand here", c)
		}
		i += n
	}
	return 0, ""
}

// isControl says that a character has no place in a line.
func isControl(c rune) bool { return unicode.IsControl(c) || c == '\u2028' || c == '\u2029' }

// deref is the node an alias stands for, or the node itself; nil when the file
// grows beyond all bounds by its aliases, which has been said then.
func (r *reader) deref(n *yaml.Node) *yaml.Node {
	r.nodes++
	if r.nodes > r.limit {
		if r.nodes == r.limit+1 {
			r.addf(n, "the file is too large when its aliases (*name) are written out: use groups")
			r.nodes++
		}
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// pairs reads a mapping in its order. Nothing (null) is an empty mapping.
func (r *reader) pairs(n *yaml.Node, what string) []pair { return r.mergedPairs(n, what, 0) }

func (r *reader) mergedPairs(n *yaml.Node, what string, depth int) []pair {
	if n = r.deref(n); n == nil || isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.addf(n, "%s: want keys with values, not %s", what, kindName(n))
		return nil
	}
	var out []pair
	var merges []*yaml.Node
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := r.deref(n.Content[i])
		if k == nil {
			return out
		}
		if k.Kind != yaml.ScalarNode {
			r.addf(k, "%s: a key must be a word, not %s", what, kindName(k))
			continue
		}
		if k.ShortTag() == "!!merge" {
			merges = append(merges, n.Content[i+1])
			continue
		}
		if first, dup := seen[k.Value]; dup {
			r.addf(k, "%s: key %q stands twice (first on line %d)", what, k.Value, first)
			continue
		}
		seen[k.Value] = k.Line
		out = append(out, pair{key: k.Value, at: k, node: n.Content[i+1]})
	}
	for _, p := range r.merged(merges, what, depth+1) {
		if _, dup := seen[p.key]; !dup {
			seen[p.key] = p.at.Line
			out = append(out, p)
		}
	}
	return out
}

// merged reads the mappings that "<<" names; the first that has a key wins.
func (r *reader) merged(nodes []*yaml.Node, what string, depth int) []pair {
	var out []pair
	for _, n := range nodes {
		t := r.deref(n)
		switch {
		case t == nil:
		case depth > maxMerges:
			r.addf(n, "%s: merges (<<) nest deeper than %d", what, maxMerges)
		case t.Kind == yaml.SequenceNode && depth <= maxMerges:
			out = append(out, r.merged(t.Content, what, depth+1)...)
		default:
			out = append(out, r.mergedPairs(t, what, depth)...)
		}
	}
	return out
}

// fields reads a mapping whose keys are known; elsewhere are keys that exist
// but not here, each with where it belongs.
func (r *reader) fields(n *yaml.Node, what string, known []string, elsewhere map[string]string) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	for _, p := range r.pairs(n, what) {
		switch where := elsewhere[p.key]; {
		case slices.Contains(known, p.key):
			out[p.key] = p.node
		case where != "":
			r.addf(p.at, "%s: key %q may only stand %s", what, p.key, where)
		default:
			r.addf(p.at, "%s: unknown key %q%s", what, p.key, DidYouMean(p.key, known))
		}
	}
	return out
}

// text is a scalar as it is written, whatever YAML would make of it.
func (r *reader) text(n *yaml.Node, what string) (*yaml.Node, bool) {
	if n = r.deref(n); n == nil {
		return nil, false
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		r.addf(n, "%s: want one value, not %s", what, kindName(n))
	case isNull(n) || n.Value == "":
		r.addf(n, "%s: the value is missing", what)
	default:
		return n, true
	}
	return nil, false
}

// word is a scalar that is text for YAML too.
func (r *reader) word(n *yaml.Node, what string) (*yaml.Node, bool) {
	n, ok := r.text(n, what)
	if ok && n.ShortTag() != "!!str" {
		r.addf(n, "%s: %s is %s in YAML: write it in quotes if it is meant", what, n.Value, tagName(n))
		return nil, false
	}
	return n, ok
}

// words is a list of words; one word is a list of one.
//
// hint ends the message about an entry that is none.
func (r *reader) words(n *yaml.Node, what, hint string) []*yaml.Node {
	t := r.deref(n)
	if t == nil || isNull(t) {
		return nil
	}
	items := []*yaml.Node{n}
	if t.Kind == yaml.SequenceNode {
		items = t.Content
	}
	var out []*yaml.Node
	for _, item := range items {
		w, ok := r.text(item, what)
		if ok && w.ShortTag() != "!!str" {
			r.addf(w, "%s: %s is %s in YAML: write it in quotes if it is meant%s", what, w.Value, tagName(w), hint)
			ok = false
		}
		if ok {
			out = append(out, w)
		}
	}
	return out
}

// boolean is true or false; def when it is neither, which has been said then.
func (r *reader) boolean(n *yaml.Node, what string, def bool) bool {
	n, ok := r.text(n, what)
	if !ok {
		return def
	}
	var b bool
	if n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
		r.addf(n, "%s: want true or false, not %q", what, n.Value)
		return def
	}
	return b
}

func kindName(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}

func tagName(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	}
	return "no text"
}

package edit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"rubus/config"

	"gopkg.in/yaml.v3"
)

// errByHand says that a place of the file has a form that rubus does not edit.
var errByHand = errors.New("its form in the file is one that rubus cannot edit: change it by hand")

// source is a YAML text with its nodes. Encoding nodes again would reflow the
// whole file; so nodes only say where the bytes are that an edit is about.
type source struct {
	data  []byte
	root  *yaml.Node // nil: nothing but comments
	lines []int      // where each line begins
	eol   string
}

func newSource(data []byte) (*source, error) {
	doc, err := config.Decode(data)
	if err != nil {
		return nil, err
	}
	s := &source{data: data, lines: []int{0}, eol: "\n"}
	for i, c := range data {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	if bytes.Contains(data, []byte("\r\n")) {
		s.eol = "\r\n"
	}
	if doc != nil && len(doc.Content) > 0 && !isNull(doc.Content[0]) {
		s.root = doc.Content[0]
	}
	return s, nil
}

// start is where a node begins. Columns count characters.
func (s *source) start(n *yaml.Node) int {
	at := s.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(s.data[at:])
		at += size
	}
	return at
}

// lineEnd is where the line of an offset ends, before its line break.
func (s *source) lineEnd(at int) int {
	if i := bytes.IndexByte(s.data[at:], '\n'); i >= 0 {
		at += i
		if at > 0 && s.data[at-1] == '\r' {
			at--
		}
		return at
	}
	return len(s.data)
}

// nextLine is where the line after that of an offset begins.
func (s *source) nextLine(at int) int {
	if i := bytes.IndexByte(s.data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(s.data)
}

// lineStart is where the line of an offset begins.
func (s *source) lineStart(at int) int { return bytes.LastIndexByte(s.data[:at], '\n') + 1 }

// end is where a node ends. after is where it can begin at the earliest: an
// empty value has no place of its own and ends there.
func (s *source) end(n *yaml.Node, after int) (int, error) {
	if isNull(n) && n.Value == "" {
		return after, nil
	}
	at := s.start(n)
	switch n.Kind {
	case yaml.AliasNode:
		return s.plainEnd(at, "*"+n.Value)
	case yaml.ScalarNode:
		return s.scalarEnd(n, at)
	}
	last := at
	for i, c := range n.Content {
		var err error
		if last, err = s.end(c, last); err != nil {
			return 0, err
		}
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			last = s.afterColon(last)
		}
	}
	if n.Style&yaml.FlowStyle == 0 {
		return last, nil
	}
	if len(n.Content) == 0 {
		last++ // the opening bracket
	}
	closing := byte(']')
	if n.Kind == yaml.MappingNode {
		closing = '}'
	}
	for last < len(s.data) {
		switch c := s.data[last]; {
		case c == closing:
			return last + 1, nil
		case c == '#':
			last = s.lineEnd(last)
		case strings.IndexByte(" \t\r\n,", c) < 0:
			return 0, errByHand
		default:
			last++
		}
	}
	return 0, errByHand
}

// afterColon is the offset behind the colon that ends a key, if one is there.
func (s *source) afterColon(at int) int {
	for i := at; i < len(s.data); i++ {
		switch s.data[i] {
		case ' ', '\t':
		case ':':
			return i + 1
		default:
			return at
		}
	}
	return at
}

func (s *source) scalarEnd(n *yaml.Node, at int) (int, error) {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for i := at + 1; i < len(s.data); i++ {
			switch s.data[i] {
			case '\\':
				i++
			case '"':
				return i + 1, nil
			}
		}
	case n.Style&yaml.SingleQuotedStyle != 0:
		for i := at + 1; i < len(s.data); i++ {
			if s.data[i] != '\'' {
				continue
			}
			if i+1 == len(s.data) || s.data[i+1] != '\'' {
				return i + 1, nil
			}
			i++
		}
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0:
		return s.plainEnd(at, n.Value)
	}
	return 0, errByHand
}

// plainEnd is the end of a text that stands in the file as it is. One that does
// not goes over several lines, or has an anchor.
func (s *source) plainEnd(at int, text string) (int, error) {
	if !bytes.HasPrefix(s.data[at:], []byte(text)) {
		return 0, errByHand
	}
	return at + len(text), nil
}

// replaced is the text with [from, to) replaced.
func (s *source) replaced(from, to int, with string) []byte {
	return slices.Concat(s.data[:from], []byte(with), s.data[to:])
}

// cut is the text without [from, to), which may hold no comment: it may tell of
// something that stays.
func (s *source) cut(from, to int) ([]byte, error) {
	if bytes.IndexByte(s.data[from:to], '#') >= 0 {
		return nil, errByHand
	}
	return s.replaced(from, to, ""), nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// value is the node of a key in a mapping, with the place of the key among
// n.Content; nil when it is not there.
func value(n *yaml.Node, key string) (v *yaml.Node, at int) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i].Kind == yaml.ScalarNode {
			return n.Content[i+1], i
		}
	}
	return nil, -1
}

// scalarText is a string as a YAML scalar that may stand anywhere.
func scalarText(v string) (string, error) {
	b, err := yaml.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("writing %q as YAML: %w", v, err)
	}
	text := strings.TrimSuffix(string(b), "\n")
	if text == v && !strings.ContainsAny(v, ",[]{}#") {
		return text, nil
	}
	// Marshal may fold or write a block; a double-quoted scalar never breaks
	// lines here.
	n := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: v}
	if b, err = yaml.Marshal(&n); err != nil || bytes.Count(b, []byte("\n")) != 1 {
		return "", fmt.Errorf("%q is too long to be written as YAML", v)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

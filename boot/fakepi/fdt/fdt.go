package fdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Of the Devicetree Specification 0.4, chapter 5: the header's magic number,
// the version written, and the tokens of the structure block.
const (
	magic       = 0xd00dfeed
	version     = 17
	lastVersion = 16
	headerLen   = 40

	tokBegin = 1
	tokEnd   = 2
	tokProp  = 3
	tokNop   = 4
	tokStop  = 9
)

// Bounds of what is read.
const (
	// MaxSize is the largest blob read, in bytes.
	MaxSize  = 4 << 20
	maxDepth = 64
	// maxNodes and maxProps bound memory: a blob of minimal nodes would
	// otherwise blow up to many times its size.
	maxNodes = 1 << 16
	maxProps = 1 << 17
)

// ErrFormat says that bytes are no device tree blob that can be read.
var ErrFormat = errors.New("not a device tree blob")

// Tree is a device tree.
type Tree struct {
	Root *Node
	// BootCPU is the physical id of the boot CPU.
	BootCPU uint32
	// Reserved are the memory reservations.
	Reserved []Reservation
}

// Reservation is a range of memory that the kernel leaves alone.
type Reservation struct{ Address, Size uint64 }

// Node is a node of the tree, properties and children in order.
type Node struct {
	Name     string
	Props    []Prop
	Children []*Node
}

// Prop is a property.
type Prop struct {
	Name  string
	Value []byte
}

// Find returns the node at an absolute path such as "/chosen", or nil.
func (t *Tree) Find(path string) *Node {
	n := t.Root
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name != "" {
			if n = n.child(name); n == nil {
				return nil
			}
		}
	}
	return n
}

// Make is Find that adds the nodes that are missing.
func (t *Tree) Make(path string) *Node {
	n := t.Root
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name == "" {
			continue
		}
		c := n.child(name)
		if c == nil {
			c = &Node{Name: name}
			n.Children = append(n.Children, c)
		}
		n = c
	}
	return n
}

func (n *Node) child(name string) *Node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Get is the value of a property; ok says whether the node has it.
func (n *Node) Get(name string) (value []byte, ok bool) {
	for _, p := range n.Props {
		if p.Name == name {
			return p.Value, true
		}
	}
	return nil, false
}

// Set gives a property a value.
func (n *Node) Set(name string, value []byte) {
	for i := range n.Props {
		if n.Props[i].Name == name {
			n.Props[i].Value = value
			return
		}
	}
	n.Props = append(n.Props, Prop{name, value})
}

// SetString gives a property a string value, with the NUL that ends it.
func (n *Node) SetString(name, value string) { n.Set(name, append([]byte(value), 0)) }

// Encode writes the blob.
func (t *Tree) Encode() []byte {
	e := encoder{offsets: map[string]uint32{}}
	e.node(t.Root)
	e.token(tokStop)

	reserve := make([]byte, 0, 16*(len(t.Reserved)+1))
	for _, r := range append(t.Reserved[:len(t.Reserved):len(t.Reserved)], Reservation{}) {
		reserve = binary.BigEndian.AppendUint64(reserve, r.Address)
		reserve = binary.BigEndian.AppendUint64(reserve, r.Size)
	}
	// The order of the blocks is the specification's (5.1, figure 5.1).
	structAt := headerLen + len(reserve)
	stringsAt := structAt + len(e.body)
	total := stringsAt + len(e.strings)
	var out []byte
	for _, v := range []int{
		magic, total, structAt, stringsAt, headerLen, version, lastVersion,
		int(t.BootCPU), len(e.strings), len(e.body),
	} {
		out = binary.BigEndian.AppendUint32(out, uint32(v))
	}
	return bytes.Join([][]byte{out, reserve, e.body, e.strings}, nil)
}

type encoder struct {
	body, strings []byte
	offsets       map[string]uint32
}

func (e *encoder) token(t uint32) { e.body = binary.BigEndian.AppendUint32(e.body, t) }

func (e *encoder) pad() {
	for len(e.body)%4 != 0 {
		e.body = append(e.body, 0)
	}
}

func (e *encoder) node(n *Node) {
	e.token(tokBegin)
	e.body = append(append(e.body, n.Name...), 0)
	e.pad()
	for _, p := range n.Props {
		at, ok := e.offsets[p.Name]
		if !ok {
			at = uint32(len(e.strings))
			e.offsets[p.Name] = at
			e.strings = append(append(e.strings, p.Name...), 0)
		}
		e.token(tokProp)
		e.token(uint32(len(p.Value)))
		e.token(at)
		e.body = append(e.body, p.Value...)
		e.pad()
	}
	for _, c := range n.Children {
		e.node(c)
	}
	e.token(tokEnd)
}

// Parse reads a blob. Values share memory with it.
func Parse(b []byte) (*Tree, error) {
	p, err := header(b)
	if err != nil {
		return nil, err
	}
	t := &Tree{BootCPU: binary.BigEndian.Uint32(b[28:]), Reserved: p.reserved}
	if tok, ok := p.next(); !ok || tok != tokBegin {
		return nil, fmt.Errorf("%w: no root node", ErrFormat)
	}
	if t.Root, err = p.node(0); err != nil {
		return nil, err
	}
	if t.Root.Name != "" {
		return nil, fmt.Errorf("%w: the root node has the name %q", ErrFormat, t.Root.Name)
	}
	if tok, ok := p.next(); !ok || tok != tokStop {
		return nil, fmt.Errorf("%w: no end", ErrFormat)
	}
	return t, nil
}

type parser struct {
	body, strings []byte
	reserved      []Reservation
	nodes, props  int
}

// header checks the header and cuts the blob into its blocks.
func header(b []byte) (*parser, error) {
	if len(b) < headerLen || binary.BigEndian.Uint32(b) != magic {
		return nil, ErrFormat
	}
	field := func(i int) int { return int(binary.BigEndian.Uint32(b[4*i:])) }
	total := field(1)
	if total < headerLen || total > len(b) || total > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes of %d", ErrFormat, len(b), total)
	}
	if field(5) < version || field(6) > version {
		return nil, fmt.Errorf("%w: version %d", ErrFormat, field(5))
	}
	b = b[:total]
	cut := func(at, n int) []byte {
		if at < 0 || n < 0 || at > total || n > total-at {
			return nil
		}
		return b[at : at+n]
	}
	p := &parser{body: cut(field(2), field(9)), strings: cut(field(3), field(8))}
	rest := cut(field(4), total-field(4))
	if p.body == nil || p.strings == nil || rest == nil {
		return nil, fmt.Errorf("%w: a block lies outside", ErrFormat)
	}
	for {
		if len(rest) < 16 {
			return nil, fmt.Errorf("%w: the memory reservations have no end", ErrFormat)
		}
		r := Reservation{binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])}
		if rest = rest[16:]; r == (Reservation{}) {
			return p, nil
		}
		p.reserved = append(p.reserved, r)
	}
}

// next takes one token, past any NOPs.
func (p *parser) next() (uint32, bool) {
	for {
		v, ok := p.word()
		if !ok || v != tokNop {
			return v, ok
		}
	}
}

func (p *parser) word() (uint32, bool) {
	if len(p.body) < 4 {
		return 0, false
	}
	v := binary.BigEndian.Uint32(p.body)
	p.body = p.body[4:]
	return v, true
}

// bytes takes n bytes and the padding behind them.
func (p *parser) bytes(n int) ([]byte, bool) {
	if n < 0 || n > len(p.body) {
		return nil, false
	}
	v := p.body[:n:n]
	p.body = p.body[min((n+3)&^3, len(p.body)):]
	return v, true
}

// node reads a node whose begin token was taken.
func (p *parser) node(depth int) (*Node, error) {
	if p.nodes++; depth > maxDepth || p.nodes > maxNodes {
		return nil, fmt.Errorf("%w: too many nodes", ErrFormat)
	}
	end := bytes.IndexByte(p.body, 0)
	if end < 0 {
		return nil, fmt.Errorf("%w: a name has no end", ErrFormat)
	}
	name, _ := p.bytes(end + 1)
	n := &Node{Name: string(name[:end])}
	for {
		tok, ok := p.next()
		switch {
		case !ok:
			return nil, fmt.Errorf("%w: node %q has no end", ErrFormat, n.Name)
		case tok == tokEnd:
			return n, nil
		case tok == tokBegin:
			c, err := p.node(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Children = append(n.Children, c)
		case tok == tokProp && len(n.Children) == 0:
			prop, err := p.prop()
			if err != nil {
				return nil, err
			}
			n.Props = append(n.Props, prop)
		default:
			return nil, fmt.Errorf("%w: token %d in node %q", ErrFormat, tok, n.Name)
		}
	}
}

func (p *parser) prop() (Prop, error) {
	size, _ := p.word()
	at, ok := p.word()
	if p.props++; !ok || int64(at) >= int64(len(p.strings)) || p.props > maxProps {
		return Prop{}, fmt.Errorf("%w: a property without a name", ErrFormat)
	}
	name, _, ok := bytes.Cut(p.strings[at:], []byte{0})
	// 31 characters by the specification; compilers let more pass.
	if !ok || len(name) > 255 {
		return Prop{}, fmt.Errorf("%w: a property's name has no end", ErrFormat)
	}
	value, ok := p.bytes(int(size))
	if !ok {
		return Prop{}, fmt.Errorf("%w: property %q is cut off", ErrFormat, name)
	}
	return Prop{string(name), value}, nil
}

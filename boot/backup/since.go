package backup

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"rubus/config/device"
	"rubus/images/archive"
)

// since reads the backup before, board by board.
type since struct {
	r    *archive.Reader
	next *archive.Member // looked at, and not yet wanted
	end  bool
}

type oldPart struct {
	id   string
	list archive.List
}

// peek is the next member; nil at the end.
func (s *since) peek() (*archive.Member, error) {
	if s.next != nil || s.end {
		return s.next, nil
	}
	m, err := s.r.Next()
	if errors.Is(err, io.EOF) {
		s.end = true
		return nil, nil //nolint:nilnil // as it says
	}
	if err != nil {
		return nil, fmt.Errorf("the backup before: %w", err)
	}
	s.next = &m
	return s.next, nil
}

// find passes over members that come before one; nil: there is none.
func (s *since) find(name string) (*oldPart, error) {
	for {
		m, err := s.peek()
		if err != nil || m == nil || rank(m.Name) > rank(name) || rank(m.Name) == rank(name) && m.Name > name {
			return nil, err
		}
		s.next = nil
		if m.Name != name || !m.IsTree {
			continue
		}
		return s.part(m)
	}
}

// rank is where members come that are no board's.
func rank(name string) int {
	switch {
	case name == imagesDoc:
		return 0
	case strings.HasPrefix(name, layersTree):
		return 1
	case strings.HasPrefix(name, configDir):
		return 2
	case name == stateTree:
		return 3
	}
	return 4
}

func (s *since) part(m *archive.Member) (p *oldPart, err error) {
	p = &oldPart{id: m.ID, list: archive.List{ID: m.ID}}
	if !m.Same {
		p.list, err = s.r.List()
	}
	return p, err
}

// board gives the parts of a board. Boards must be asked for in their order.
func (s *since) board(serial device.Serial) (map[string]*oldPart, error) {
	out := map[string]*oldPart{}
	for {
		m, err := s.peek()
		if err != nil || m == nil {
			return out, err
		}
		rest, ok := strings.CutPrefix(m.Name, boardsDir)
		its, part, _ := strings.Cut(rest, "/")
		if ok && its > serial.String() {
			return out, nil
		}
		s.next = nil
		if ok && m.IsTree && its == serial.String() {
			if out[part], err = s.part(m); err != nil {
				return nil, fmt.Errorf("the backup before: %w", err)
			}
		}
	}
}

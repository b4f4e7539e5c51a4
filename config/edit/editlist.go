package edit

import (
	"slices"
	"strings"

	"rubus/config"

	"gopkg.in/yaml.v3"
)

// add puts a device with these "key: value" pairs at the end of the list, in
// the form that the one before it has.
func (s *source) add(pairs []string) ([]byte, error) {
	list, at := s.list()
	switch {
	case s.root == nil:
		head := ""
		if strings.TrimSpace(string(s.data)) == "" {
			head = "version: 1" + s.eol
		}
		return s.appendText(head + "devices:" + s.eol + s.item(pairs, "  ", " ") + s.eol), nil
	case s.root.Kind != yaml.MappingNode || s.root.Style&yaml.FlowStyle != 0:
		return nil, errByHand
	case at < 0:
		return s.appendText("devices:" + s.eol + s.item(pairs, "  ", " ") + s.eol), nil
	case list.Kind == yaml.AliasNode:
		return nil, errByHand
	case len(list.Content) == 0:
		return s.addFirst(s.root.Content[at], list, pairs)
	}
	last := list.Content[len(list.Content)-1]
	end, err := s.end(last, s.start(last))
	if err != nil {
		return nil, err
	}
	if list.Style&yaml.FlowStyle != 0 {
		return s.replaced(end, end, ", {"+strings.Join(pairs, ", ")+"}"), nil
	}
	indent := strings.Repeat(" ", list.Column-1)
	end = s.lineEnd(end)
	if last.Kind == yaml.MappingNode && last.Style&yaml.FlowStyle != 0 {
		return s.replaced(end, end, s.eol+indent+"- {"+strings.Join(pairs, ", ")+"}"), nil
	}
	gap := " "
	if last.Kind == yaml.MappingNode && last.Column > list.Column+1 {
		gap = strings.Repeat(" ", last.Column-list.Column-1)
	}
	return s.replaced(end, end, s.eol+s.item(pairs, indent, gap)), nil
}

// addFirst fills a list that stands there without a device, as "devices:" or
// "devices: []".
func (s *source) addFirst(key, list *yaml.Node, pairs []string) ([]byte, error) {
	keyEnd, err := s.end(key, s.start(key))
	if err != nil {
		return nil, err
	}
	colon := s.afterColon(keyEnd)
	end, err := s.end(list, colon)
	if err != nil {
		return nil, err
	}
	lineEnd := s.lineEnd(end)
	return slices.Concat(s.data[:colon], s.data[end:lineEnd],
		[]byte(s.eol+s.item(pairs, "  ", " ")), s.data[lineEnd:]), nil
}

// item is a device in block form, without the last line break.
func (s *source) item(pairs []string, indent, gap string) string {
	sep := s.eol + indent + " " + gap
	return indent + "-" + gap + strings.Join(pairs, sep)
}

func (s *source) appendText(text string) []byte {
	if n := len(s.data); n > 0 && s.data[n-1] != '\n' {
		text = s.eol + text
	}
	return s.replaced(len(s.data), len(s.data), text)
}

// remove takes out the device at a place in the list.
func (s *source) remove(i int) ([]byte, error) {
	list, _ := s.list()
	item := list.Content[i]
	from := s.start(item)
	to, err := s.end(item, from)
	if err != nil {
		return nil, err
	}
	if list.Style&yaml.FlowStyle != 0 {
		return s.removeFlow(list.Content, i, 1, from, to)
	}
	// Back to the dash, which may stand on a line of its own.
	dash := strings.LastIndexByte(string(s.data[:from]), '-')
	if dash < 0 || strings.TrimSpace(string(s.data[dash+1:from])) != "" {
		return nil, errByHand
	}
	first := s.lineStart(dash)
	if strings.TrimSpace(string(s.data[first:dash])) != "" {
		return nil, errByHand
	}
	return s.replaced(first, s.nextLine(to), ""), nil
}

// removeFlow takes [from, to), the element that begins at nodes[i], out of a
// list or mapping in brackets, with one comma.
func (s *source) removeFlow(nodes []*yaml.Node, i, width, from, to int) ([]byte, error) {
	if i+width < len(nodes) {
		return s.cut(from, s.start(nodes[i+width]))
	}
	if i > 0 {
		before := nodes[i-1]
		end, err := s.end(before, s.start(before))
		if err != nil {
			return nil, err
		}
		return s.cut(end, to)
	}
	return s.cut(from, to)
}

// set gives a key of a device a value, or takes it away when text is "".
func (s *source) set(item *yaml.Node, key, text string) ([]byte, error) {
	old, i := value(item, key)
	switch {
	case old == nil && text == "":
		return s.data, nil
	case old == nil:
		return s.insert(item, key, text)
	}
	keyStart := s.start(item.Content[i])
	keyEnd, err := s.end(item.Content[i], keyStart)
	if err != nil {
		return nil, err
	}
	colon := s.afterColon(keyEnd)
	end, err := s.end(old, colon)
	if err != nil {
		return nil, err
	}
	flow := item.Style&yaml.FlowStyle != 0
	switch {
	case text != "" && end == colon: // it was empty
		return s.replaced(colon, end, " "+text), nil
	case text != "" && old.Line == item.Content[i].Line:
		return s.replaced(s.start(old), end, text), nil
	case text != "": // from the lines below to this one
		if _, err := s.cut(colon, end); err != nil {
			return nil, err
		}
		return s.replaced(colon, end, " "+text), nil
	case flow:
		return s.removeFlow(item.Content, i, 2, keyStart, end)
	case i > 0:
		return s.replaced(s.lineStart(keyStart), s.nextLine(end), ""), nil
	case len(item.Content) > 2: // the first key stands behind the dash
		return s.cut(keyStart, s.start(item.Content[2]))
	}
	return nil, errByHand
}

// insert puts a new key behind the nearest one that comes before it in the
// order of deviceKeys.
func (s *source) insert(item *yaml.Node, key, text string) ([]byte, error) {
	keys := config.DeviceKeys()
	for n := slices.Index(keys, key) - 1; n >= 0; n-- {
		v, i := value(item, keys[n])
		if v == nil {
			continue
		}
		k := item.Content[i]
		end, err := s.end(k, s.start(k))
		if err != nil {
			return nil, err
		}
		if end, err = s.end(v, s.afterColon(end)); err != nil {
			return nil, err
		}
		if item.Style&yaml.FlowStyle != 0 {
			return s.replaced(end, end, ", "+key+": "+text), nil
		}
		end = s.lineEnd(end)
		return s.replaced(end, end, s.eol+strings.Repeat(" ", item.Content[0].Column-1)+key+": "+text), nil
	}
	return nil, errByHand
}

package edit

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"rubus/config"
	"rubus/config/device"
)

// Setting is a key of a device with its value as a user types it. An empty
// value takes the key away. The keys group, cmdline and config are lists: they
// may come several times, and a value of group may name several with commas.
type Setting struct{ Key, Value string }

// AddDevice adds a device at the end of the list.
func AddDevice(serial device.Serial, settings ...Setting) Change {
	return checked(serial, func(s *source) ([]byte, error) {
		if item, _ := s.device(serial); item != nil {
			return nil, fmt.Errorf("device %s is there already (line %d)", serial, item.Line)
		}
		keys, err := written(settings)
		if err != nil {
			return nil, err
		}
		pairs := []string{"serial: " + serial.String()}
		for _, key := range config.DeviceKeys() {
			if v := keys[key]; v != "" {
				pairs = append(pairs, key+": "+v)
			}
		}
		return s.add(pairs)
	})
}

// RemoveDevice takes a device out of the list. Comments above it stay.
func RemoveDevice(serial device.Serial) Change {
	return checked(serial, func(s *source) ([]byte, error) {
		item, at := s.device(serial)
		if item == nil {
			return nil, noDevice(serial)
		}
		return s.remove(at)
	})
}

// SetDevice changes keys of a device.
func SetDevice(serial device.Serial, settings ...Setting) Change {
	return checked(serial, func(s *source) ([]byte, error) {
		keys, err := written(settings)
		if err != nil {
			return nil, err
		}
		for _, key := range config.DeviceKeys() {
			text, ok := keys[key]
			if !ok {
				continue
			}
			item, _ := s.device(serial)
			if item == nil {
				return nil, noDevice(serial)
			}
			data, err := s.set(item, key, text)
			if err != nil {
				return nil, fmt.Errorf("%q of device %s (line %d): %w", key, serial, item.Line, err)
			}
			if s, err = newSource(data); err != nil {
				return nil, fmt.Errorf("%q of device %s (line %d): %w", key, serial, item.Line, errByHand)
			}
		}
		return s.data, nil
	})
}

// EnableDevice says whether a device gets new boots: by its own key, or without
// one where that says the same.
func EnableDevice(serial device.Serial, on bool) Change {
	return func(name string, data []byte) ([]byte, error) {
		now, err := config.Parse(config.File{}, config.File{Name: name, Data: data})
		if err != nil {
			return nil, err
		}
		d := now.BySerial(serial)
		if d == nil {
			return nil, noDevice(serial)
		}
		if d.Enabled == on {
			return data, nil
		}
		without, err := SetDevice(serial, Setting{"enabled", ""})(name, data)
		if err == nil {
			if s, err := config.Parse(config.File{}, config.File{Name: name, Data: without}); err == nil && s.BySerial(serial).Enabled == on {
				return without, nil
			}
		}
		return SetDevice(serial, Setting{"enabled", fmt.Sprint(on)})(name, data)
	}
}

func noDevice(serial device.Serial) error {
	return fmt.Errorf("there is no device %s in the file", serial)
}

// checked makes a Change of a change of the text. The change is refused when
// another device reads otherwise after it: a text can be shaped in ways that
// nobody foresaw.
func checked(serial device.Serial, change func(*source) ([]byte, error)) Change {
	return func(name string, data []byte) ([]byte, error) {
		s, err := newSource(data)
		if err != nil {
			return nil, err
		}
		after, err := change(s)
		if err != nil {
			return nil, err
		}
		old, err := config.Parse(config.File{}, config.File{Name: name, Data: data})
		if err != nil {
			return nil, err
		}
		now, err := config.Parse(config.File{}, config.File{Name: name, Data: after})
		if err != nil {
			return nil, fmt.Errorf("the file would be invalid, so nothing was changed:\n%w", err)
		}
		c := config.Compare(old, now)
		for _, other := range slices.Concat(c.Added, c.Removed, c.Changed) {
			if other != serial {
				return nil, fmt.Errorf("device %s: %w", serial, errByHand)
			}
		}
		return after, nil
	}
}

// written turns settings into YAML by key; "" takes the key away.
func written(settings []Setting) (map[string]string, error) {
	values := map[string][]string{}
	for _, st := range settings {
		switch {
		case st.Key == "serial":
			return nil, fmt.Errorf("a serial is the board itself: remove the device and add another")
		case !slices.Contains(config.DeviceKeys(), st.Key):
			return nil, fmt.Errorf("unknown key %q%s", st.Key, config.DidYouMean(st.Key, config.DeviceKeys()[1:]))
		}
		isList := st.Key == "group" || st.Key == "cmdline" || st.Key == "config"
		if len(values[st.Key]) > 0 && !isList {
			return nil, fmt.Errorf("key %q stands twice", st.Key)
		}
		vs := []string{st.Value}
		if st.Key == "group" {
			vs = strings.Split(st.Value, ",")
		}
		values[st.Key] = append(values[st.Key], vs...)
	}
	out := map[string]string{}
	for key, vs := range values {
		if len(vs) == 1 && vs[0] == "" {
			out[key] = ""
			continue
		}
		texts := make([]string, len(vs))
		for i, v := range vs {
			var err error
			if texts[i], err = scalarText(strings.TrimSpace(v)); err != nil {
				return nil, err
			}
		}
		switch {
		case key == "enabled" || key == "sync" || key == "quota":
			// A word in quotes would be no boolean, and no {size: 4GiB, files: 9000}.
			out[key] = strings.TrimSpace(vs[0])
		case len(texts) == 1:
			out[key] = texts[0]
		default:
			out[key] = "[" + strings.Join(texts, ", ") + "]"
		}
	}
	return out, nil
}

// list is the list of devices; nil when there is none in the file.
func (s *source) list() (*yaml.Node, int) { return value(s.root, "devices") }

// device is the mapping of a board with its place in the list, if it stands
// there in full.
func (s *source) device(serial device.Serial) (*yaml.Node, int) {
	list, _ := s.list()
	if list == nil {
		return nil, -1
	}
	for i, item := range list.Content {
		if v, _ := value(item, "serial"); v != nil {
			if got, err := device.ParseSerial(v.Value); err == nil && got == serial {
				return item, i
			}
		}
	}
	return nil, -1
}

package edit

import (
	"errors"
	"fmt"
	"slices"

	"rubus/config"
	"rubus/config/device"
)

// ReplaceDevice gives the entry of one board to another: its serial is changed, and mac
// goes, which was the first board's own. All else stays, comments too.
func ReplaceDevice(old, now device.Serial) Change {
	return func(name string, data []byte) ([]byte, error) {
		s, err := newSource(data)
		if err != nil {
			return nil, err
		}
		item, _ := s.device(old)
		other, _ := s.device(now)
		switch {
		case item == nil && other != nil:
			return data, nil // done before
		case item == nil:
			return nil, noDevice(old)
		case other != nil:
			return nil, fmt.Errorf("device %s is there already (line %d): remove it first", now, other.Line)
		}
		if v, _ := value(item, "mac"); v != nil {
			if data, err = SetDevice(old, Setting{Key: "mac"})(name, data); err != nil {
				return nil, err
			}
			if s, err = newSource(data); err != nil {
				return nil, err
			}
			item, _ = s.device(old)
		}
		after, err := s.set(item, "serial", now.String())
		if err != nil {
			return nil, fmt.Errorf("the serial of device %s (line %d): %w", old, item.Line, err)
		}
		before, err := config.Parse(config.File{}, config.File{Name: name, Data: data})
		if err != nil {
			return nil, err
		}
		then, err := config.Parse(config.File{}, config.File{Name: name, Data: after})
		if err != nil {
			return nil, fmt.Errorf("the file would be invalid, so nothing was changed:\n%w", err)
		}
		c := config.Compare(before, then)
		if !slices.Equal(c.Added, []device.Serial{now}) || !slices.Equal(c.Removed, []device.Serial{old}) || len(c.Changed) > 0 {
			return nil, errors.Join(fmt.Errorf("device %s", old), errByHand)
		}
		return after, nil
	}
}

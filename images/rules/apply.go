package rules

import "strings"

// Layer is what a plan is written to: a layer on top of the tree. Paths are relative to its root.
type Layer interface {
	WriteFile(path string, data []byte, mode uint32) error
	Symlink(path, target string) error
	Remove(path string) error
	// Gzip packs a file that is there.
	Gzip(path string) error
	// Setuid gives a file that is there the bit, and takes its capabilities away.
	Setuid(path string) error
}

// Apply writes what the plan changes.
func (p *Plan) Apply(l Layer) error {
	for _, e := range p.Effects {
		for _, c := range e.Changes {
			var err error
			at := strings.TrimPrefix(c.Path, "/")
			switch c.Kind {
			case Write:
				err = l.WriteFile(at, c.Data, c.Mode)
			case Link, Mask:
				err = l.Symlink(at, c.Target)
			case Hide:
				err = l.Remove(at)
			case Gzip:
				err = l.Gzip(at)
			case Setuid:
				err = l.Setuid(at)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

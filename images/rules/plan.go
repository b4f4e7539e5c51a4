package rules

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what a change does.
type Kind string

// The kinds of changes.
const (
	Write  Kind = "write" // a file of root
	Link   Kind = "link"  // a symbolic link
	Mask   Kind = "mask"  // a link to /dev/null: a unit that is never started
	Hide   Kind = "hide"  // what is there is hidden
	Gzip   Kind = "gzip"  // what is there is packed
	Setuid Kind = "suid"  // what is there runs as its owner, and has no capabilities
)

// Change is one path of the layer.
type Change struct {
	Path string `json:"path"` // absolute, without links on the way
	Kind Kind   `json:"kind"`
	// Data and Mode are a written file's.
	Data []byte `json:"-"`
	Mode uint32 `json:"-"`
	// Target is where a link points.
	Target string `json:"target,omitempty"`
}

// Effect is what a rule changes.
type Effect struct {
	Rule    string   `json:"rule"`
	Why     string   `json:"why"`
	Changes []Change `json:"changes"`
}

// Plan is what the rules make of a tree.
type Plan struct {
	Family  string `json:"family"`
	Release string `json:"release"`
	// Effects are of the rules that change something.
	Effects []Effect `json:"effects"`
	// Kept counts the rules that have nothing to do.
	Kept int `json:"kept"`
	// Lost are the programs that lose capabilities.
	Lost []Capable `json:"lost_capabilities"`
	// Wireless are the files with passwords of wireless networks, hidden or not.
	Wireless []string `json:"wireless_passwords"`
	// VPN are the files with keys of VPNs, which stay.
	VPN []string `json:"vpn_keys"`
	// Notes say what else is worth knowing; Problems what is in the way of netbooting.
	Notes    []string `json:"notes"`
	Problems []string `json:"problems"`
	// Sec is the time that new files get: the same plan makes the same layer.
	Sec int64 `json:"-"`
}

// Changes counts what is changed.
func (p *Plan) Changes() int {
	n := 0
	for _, e := range p.Effects {
		n += len(e.Changes)
	}
	return n
}

// planner makes a plan.
type planner struct {
	t    *Tree
	pack *Pack
	plan Plan
	done map[string]Change // by path
	now  *Effect           // of the rule at hand
}

// Make says what the pack changes in a tree. It reads the tree only.
func (p *Pack) Make(t *Tree) (Plan, error) {
	m := &planner{t: t, pack: p, done: map[string]Change{}}
	m.plan = Plan{
		Family: p.Family, Release: p.Release,
		Effects: []Effect{}, Lost: []Capable{}, Wireless: []string{}, VPN: []string{}, Notes: []string{}, Problems: []string{},
	}
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if _, n, err := t.find(name, true); err == nil && n != nil {
			m.plan.Sec = n.Stat.Mtim.Sec
			break
		}
	}
	for _, r := range p.Rules {
		m.now = &Effect{Rule: r.ID, Why: r.Why}
		for _, s := range r.steps {
			if err := m.step(s); err != nil {
				return Plan{}, fmt.Errorf("rule %q: %w", r.ID, err)
			}
		}
		if len(m.now.Changes) > 0 {
			m.plan.Effects = append(m.plan.Effects, *m.now)
		} else {
			m.plan.Kept++
		}
	}
	if err := m.inspect(); err != nil {
		return Plan{}, err
	}
	return m.plan, nil
}

func (m *planner) step(s step) error {
	if ok, err := m.applies(s); !ok || err != nil {
		return err
	}
	switch {
	case s.Fstab:
		return m.fstabStep()
	case s.Bind != "":
		return m.bind(s.Bind)
	case s.File != nil:
		return m.write(s.File.Path, []byte(s.File.Text), s.File.Mode)
	case s.Append != nil:
		return m.appendLine(s.Append.Path, s.Append.Line)
	case s.Link != nil:
		return m.change(Change{Path: s.Link.Path, Kind: Link, Target: s.Link.To})
	case s.Enable != nil:
		return m.enable(s.Enable)
	case s.Capabilities:
		return m.capabilities()
	case s.Kernels != nil:
		return m.kernels(s.Kernels)
	case s.Wireless:
		return m.wireless()
	}
	for _, unit := range s.Mask {
		if err := m.mask(unit); err != nil {
			return err
		}
	}
	for _, p := range s.Hide {
		if err := m.change(Change{Path: p, Kind: Hide}); err != nil {
			return err
		}
	}
	return nil
}

// applies says whether the conditions of a step hold.
func (m *planner) applies(s step) (bool, error) {
	for _, p := range s.Unless {
		// A link that leads nowhere enables a unit all the same.
		if _, n, err := m.t.find(p, false); err == nil && n != nil {
			return false, nil
		}
	}
	for _, p := range s.When {
		if ok, err := m.t.Exists(p); ok || err != nil {
			return ok, err
		}
	}
	return len(s.When) == 0, nil
}

// change puts c into the plan, unless the tree is like that. What can't be changed is a problem.
func (m *planner) change(c Change) error {
	p, n, err := m.t.find(c.Path, false)
	if isOdd(err) {
		m.plan.Problems = append(m.plan.Problems, fmt.Sprintf("%v; so rule %s can't do its part", err, m.now.Rule))
		return nil
	}
	if err != nil {
		return err
	}
	was := c.Path
	c.Path = p
	if n != nil && n.IsDir() {
		m.plan.Problems = append(m.plan.Problems, fmt.Sprintf("%s is a directory; so rule %s can't do its part", was, m.now.Rule))
		return nil
	}
	same := n == nil
	if n != nil {
		switch kind := n.Stat.Mode & unix.S_IFMT; {
		case c.Kind == Write && kind == unix.S_IFREG && n.Stat.Mode&0o111 == c.Mode&0o111 && n.Stat.Uid == 0 && n.Stat.Gid == 0 && n.Stat.Size == int64(len(c.Data)):
			b, err := m.t.v.ReadFile(n.Path, int64(len(c.Data)))
			if err != nil {
				return err
			}
			same = bytes.Equal(b, c.Data)
		case (c.Kind == Link || c.Kind == Mask) && kind == unix.S_IFLNK:
			target, err := m.t.v.Readlink(n)
			if err != nil {
				return err
			}
			same = target == c.Target
		}
	} else {
		same = c.Kind == Hide || c.Kind == Gzip
	}
	if old, ok := m.done[c.Path]; ok && old.Kind != c.Kind {
		return fmt.Errorf("%s is there twice: %s and %s", c.Path, old.Kind, c.Kind)
	}
	m.done[c.Path], m.done[was] = c, c
	if !same {
		m.now.Changes = append(m.now.Changes, c)
	}
	return nil
}

// isOdd says that a path of the image leads nowhere, rather than that it can't be read.
func isOdd(err error) bool {
	return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT)
}

func (m *planner) write(p string, b []byte, mode uint32) error {
	return m.change(Change{Path: p, Kind: Write, Data: b, Mode: mode})
}

// appendLine adds a line to a file that is there.
func (m *planner) appendLine(p, l string) error {
	b, err := m.t.Read(p)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	for have := range strings.Lines(string(b)) {
		if strings.TrimSpace(have) == l {
			return nil
		}
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	return m.write(p, append(b, l+"\n"...), 0o644)
}

// unitDirs are where units lie, those of the administrator first.
func unitDirs() []string {
	return []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// mask masks a unit that is there, be it a script of System V.
func (m *planner) mask(unit string) error {
	places := []string{"/etc/init.d/" + strings.TrimSuffix(unit, ".service")}
	for _, d := range unitDirs() {
		places = append(places, path.Join(d, unit))
	}
	for _, p := range places {
		// Nobody follows the link of a mask.
		_, n, err := m.t.find(p, false)
		if isOdd(err) {
			continue
		}
		if err != nil {
			return err
		}
		if n != nil {
			return m.change(Change{Path: path.Join(unitDirs()[0], unit), Kind: Mask, Target: "/dev/null"})
		}
	}
	return nil
}

// enable links a unit into a directory of wants, as systemctl does. A unit that is
// not there is left alone, and so is one that is linked.
func (m *planner) enable(e *enable) error {
	at := path.Join(unitDirs()[0], e.In, e.Unit)
	if _, n, err := m.t.find(at, false); err == nil && n != nil && n.Stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		if target, err := m.t.v.Readlink(n); err != nil || path.Base(target) == e.Of {
			return err
		}
	}
	for _, d := range unitDirs() {
		unit := path.Join(d, e.Of)
		there, err := m.t.Exists(unit)
		if err != nil {
			return err
		}
		if c, ok := m.done[unit]; ok && c.Kind == Write {
			there = true
		}
		if there {
			return m.change(Change{Path: at, Kind: Link, Target: unit})
		}
	}
	return nil
}

package rules

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"
)

//go:embed packs.yaml files
var data embed.FS

// Pack is what is known of one release of a family of systems.
type Pack struct {
	Family  string // "raspios", "debian" or "ubuntu"
	Release string // its code name
	Rules   []Rule
	// policies say what becomes of programs with capabilities, by base name.
	policies map[string]string
}

// String is "raspios bookworm".
func (p *Pack) String() string { return p.Family + " " + p.Release }

// Rule is one thing that a root needs, and why.
type Rule struct {
	ID    string
	Why   string
	steps []step
}

// step is one thing that a rule does, as packs.yaml says it.
type step struct {
	Fstab        bool     `yaml:"fstab"`
	Bind         string   `yaml:"bind"`
	Mask         []string `yaml:"mask"`
	File         *file    `yaml:"file"`
	Append       *line    `yaml:"append"`
	Link         *link    `yaml:"link"`
	Enable       *enable  `yaml:"enable"`
	Hide         []string `yaml:"hide"`
	Kernels      []string `yaml:"kernels"`
	Capabilities bool     `yaml:"capabilities"`
	Wireless     bool     `yaml:"wireless"`

	// When holds paths of which one has to be there, Unless such of which none may be.
	When   []string `yaml:"when"`
	Unless []string `yaml:"unless"`
}

type file struct {
	Path string `yaml:"path"`
	Text string `yaml:"text"`
	From string `yaml:"from"` // a file of the directory files, instead of Text
	Mode uint32 `yaml:"mode"` // 0: 0644
}

type line struct {
	Path string `yaml:"path"`
	Line string `yaml:"line"`
}

type link struct {
	Path string `yaml:"path"`
	To   string `yaml:"to"`
}

type enable struct {
	Unit string `yaml:"unit"`
	Of   string `yaml:"of"` // the template that Unit is of; "": Unit
	In   string `yaml:"in"`
}

// Packs are all that are known. They are parsed once, and belong to all: don't change them.
func Packs() []Pack { return parsed() }

var parsed = sync.OnceValue(func() []Pack { //nolint:gochecknoglobals // a constant
	b, err := data.ReadFile("packs.yaml")
	if err != nil {
		panic(err) // it is part of the program
	}
	packs, err := parse(b)
	if err != nil {
		panic(fmt.Sprintf("packs.yaml: %v", err))
	}
	return packs
})

func parse(b []byte) ([]Pack, error) {
	var in struct {
		Rules map[string]struct {
			Why   string `yaml:"why"`
			Steps []step `yaml:"steps"`
		} `yaml:"rules"`
		Policies map[string]string `yaml:"policies"`
		Packs    []struct {
			Family  string   `yaml:"family"`
			Release string   `yaml:"release"`
			Rules   []string `yaml:"rules"`
		} `yaml:"packs"`
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	for name, p := range in.Policies {
		if p != policyPing && p != policySetuid && p != policyRoot {
			return nil, fmt.Errorf("the policy of %q is %q", name, p)
		}
	}
	var out []Pack
	for _, p := range in.Packs {
		pack := Pack{Family: p.Family, Release: p.Release, policies: in.Policies}
		for _, id := range p.Rules {
			r, ok := in.Rules[id]
			if !ok || r.Why == "" || len(r.Steps) == 0 {
				return nil, fmt.Errorf("%s has the rule %q, which does not exist or gives no reason", &pack, id)
			}
			rule := Rule{ID: id, Why: strings.TrimSpace(r.Why), steps: r.Steps}
			for i := range rule.steps {
				if err := rule.steps[i].check(); err != nil {
					return nil, fmt.Errorf("rule %q, step %d: %w", id, i+1, err)
				}
			}
			pack.Rules = append(pack.Rules, rule)
		}
		out = append(out, pack)
	}
	return out, nil
}

// check fills in what a step may leave out, and refuses one that means nothing.
func (s *step) check() error {
	n := 0
	for _, set := range []bool{s.Fstab, s.Bind != "", s.Mask != nil, s.File != nil, s.Append != nil, s.Link != nil, s.Enable != nil, s.Hide != nil, s.Kernels != nil, s.Capabilities, s.Wireless} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("it does %d things and not one", n)
	}
	paths := slices.Concat(s.When, s.Unless, s.Hide, s.Kernels)
	switch f := s.File; {
	case f != nil:
		paths = append(paths, f.Path)
		if f.Mode == 0 {
			f.Mode = 0o644
		}
		if f.From != "" {
			b, err := data.ReadFile(path.Join("files", f.From))
			if err != nil {
				return err
			}
			f.Text, f.From = string(b), ""
		}
	case s.Append != nil:
		paths = append(paths, s.Append.Path)
	case s.Link != nil:
		paths = append(paths, s.Link.Path)
	case s.Enable != nil && s.Enable.Of == "":
		s.Enable.Of = s.Enable.Unit
	}
	for _, p := range paths {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return fmt.Errorf("%q is no clean absolute path", p)
		}
	}
	return nil
}

// ErrUnknown says that there are no rules for a root.
var ErrUnknown = errors.New("no rules are known for it")

// Recognise finds the pack for a root; an error that wraps ErrUnknown says what it is instead.
func Recognise(t *Tree) (*Pack, error) {
	b, err := t.Read("/etc/os-release")
	if errors.Is(err, errAbsent) {
		b, err = t.Read("/usr/lib/os-release")
	}
	if errors.Is(err, errAbsent) {
		return nil, fmt.Errorf("the root has no /etc/os-release: %w", ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	o := osRelease(b)
	family, release := o["ID"], o["VERSION_CODENAME"]
	// The 64-bit Raspberry Pi OS says that it is Debian.
	pi, err := t.Exists("/etc/rpi-issue")
	if err != nil {
		return nil, err
	}
	if family == "raspbian" || family == "debian" && pi {
		family = "raspios"
	}
	for _, p := range Packs() {
		if p.Family != family || p.Release != release {
			continue
		}
		for _, init := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
			if ok, err := t.Exists(init); ok || err != nil {
				return &p, err
			}
		}
		return nil, fmt.Errorf("the root is %s without systemd: %w", &p, ErrUnknown)
	}
	what := strings.TrimSpace(family + " " + release)
	if name := o["PRETTY_NAME"]; name != "" {
		what = name
	}
	return nil, fmt.Errorf("the root is %q: %w", what, ErrUnknown)
}

// osRelease reads os-release(5).
func osRelease(b []byte) map[string]string {
	out := map[string]string{}
	for l := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), "="); ok && !strings.HasPrefix(k, "#") {
			out[k] = strings.Trim(v, `"'`)
		}
	}
	return out
}

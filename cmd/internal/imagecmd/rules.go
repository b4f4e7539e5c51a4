package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/images"
	"rubus/images/importer"
	"rubus/images/layered"
	"rubus/images/rules"
)

// planRules says what the rules make of layers, the uppermost first.
func planRules(dirs []string) (rules.Plan, error) {
	dirs = slices.Clone(dirs)
	slices.Reverse(dirs) // it wants the bottom one first
	v, err := layered.Open(dirs)
	if err != nil {
		return rules.Plan{}, err
	}
	defer v.Close()
	t := rules.NewTree(v)
	pack, err := rules.Recognise(t)
	if err != nil {
		return rules.Plan{}, err
	}
	return pack.Make(t)
}

// secretsIn are the files in layers, the uppermost first, that hold passwords of wireless
// networks, and keys of VPNs. What cannot be read has none: it is for a note only.
func secretsIn(dirs []string) (wireless, vpn []string) {
	dirs = slices.Clone(dirs)
	slices.Reverse(dirs)
	v, err := layered.Open(dirs)
	if err != nil {
		return nil, nil
	}
	defer v.Close()
	t := rules.NewTree(v)
	wireless, err1 := rules.WirelessPasswords(t)
	vpn, err2 := rules.VPNKeys(t)
	if errors.Join(err1, err2) != nil {
		return nil, nil
	}
	return wireless, vpn
}

// withRules puts what the rules change on top of an import; told gets the plan, or that there is none.
func withRules(told func(*rules.Plan, error)) func(context.Context, *importer.Top) error {
	return func(_ context.Context, top *importer.Top) error {
		plan, err := planRules(top.Dirs)
		if errors.Is(err, rules.ErrUnknown) {
			told(nil, err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("applying the rules for netbooting: %w", err)
		}
		// The same tree gets the same layer.
		top.Time = time.Unix(plan.Sec, 0)
		told(&plan, nil)
		return plan.Apply(top)
	}
}

// noteRules says in few lines what was done to a new version.
func noteRules(g *cli.Globals, plan *rules.Plan, err error) {
	if err != nil {
		g.Notef("no rules for netbooting were applied: %v", err)
	}
	if plan == nil {
		return
	}
	g.Notef("rules for %s %s: %s on top", plan.Family, plan.Release, ui.Count(int64(plan.Changes()), "change"))
	for _, e := range plan.Effects {
		var paths []string
		for _, c := range e.Changes {
			paths = append(paths, fmt.Sprintf("%s %s", c.Kind, ui.Visible(c.Path)))
		}
		g.Notef("  %s: %s", e.Rule, strings.Join(paths, ", "))
	}
	for _, n := range plan.Notes {
		g.Notef("  note: %s", ui.Visible(n))
	}
	for _, p := range plan.Problems {
		g.Notef("  in the way: %s", ui.Visible(p))
	}
}

// noteUndone says what of the rules a version over another lacks that the other did not lack: a package
// brought a service, or a kernel.
func noteUndone(g *cli.Globals, s *images.Store, before, after images.Version) {
	was, err := planRules(s.LayerDirs(before))
	if err != nil {
		return // no system that has rules
	}
	is, err := planRules(s.LayerDirs(after))
	if err != nil {
		g.Notef("note: the rules for netbooting do not know the system any more: %v", err)
		return
	}
	had := map[string]bool{}
	for _, e := range was.Effects {
		for _, c := range e.Changes {
			had[c.Path] = true
		}
	}
	n := 0
	var ids []string
	for _, e := range is.Effects {
		more := 0
		for _, c := range e.Changes {
			if !had[c.Path] {
				more++
			}
		}
		if more > 0 {
			n += more
			ids = append(ids, e.Rule)
		}
	}
	if n > 0 {
		g.Notef("note: %s of the rules for netbooting %s missing now (%s): \"rubus image lint %s\" says why, --apply makes the next version",
			ui.Count(int64(n), "change"), map[bool]string{true: "is", false: "are"}[n == 1], strings.Join(ids, ", "), after.Ref)
	}
}

// showRules explains a plan.
func showRules(w io.Writer, plan *rules.Plan) {
	for _, e := range plan.Effects {
		fmt.Fprintf(w, "%s\n", e.Rule)
		for _, c := range e.Changes {
			to := ""
			if c.Kind == rules.Link {
				to = " -> " + c.Target
			}
			fmt.Fprintf(w, "  %-5s %s%s\n", c.Kind, ui.Visible(c.Path), to)
		}
		for _, l := range wrap(e.Why, 74) {
			fmt.Fprintf(w, "    %s\n", l)
		}
	}
	for _, n := range plan.Notes {
		fmt.Fprintf(w, "note: %s\n", ui.Visible(n))
	}
	for _, p := range plan.Problems {
		fmt.Fprintf(w, "in the way: %s\n", ui.Visible(p))
	}
}

// wrap breaks text into lines of at most width bytes, if its words allow.
func wrap(text string, width int) []string {
	var out []string
	for _, w := range strings.Fields(text) {
		if n := len(out) - 1; n >= 0 && len(out[n])+1+len(w) <= width {
			out[n] += " " + w
		} else {
			out = append(out, w)
		}
	}
	return out
}

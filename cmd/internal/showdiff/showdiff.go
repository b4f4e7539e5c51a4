// Package showdiff prints how two roots differ: by packages, files and lines.
package showdiff

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/sys/unix"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/images/dpkg"
	"rubus/images/layered"
	"rubus/images/sysdiff"
	"rubus/images/treediff"
)

// Totals is "3 added, 1 removed, +1.2 MiB", or "nothing".
func Totals(t sysdiff.Totals) string {
	var w []string
	for _, c := range []struct {
		n    int
		what string
	}{{t.Added, "added"}, {t.Removed, "removed"}, {t.Changed, "changed"}, {t.Renamed, "renamed"}, {t.Metadata, "metadata only"}} {
		if c.n > 0 {
			w = append(w, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(w) == 0 {
		return "nothing differs"
	}
	return strings.Join(append(w, grown(t.Grown)), ", ")
}

func grown(n int64) string {
	if n < 0 {
		return "-" + ui.Bytes(-n)
	}
	return "+" + ui.Bytes(n)
}

// Report prints packages, conffiles and files, each where there are any.
func Report(g *cli.Globals, r *sysdiff.Report, all bool) {
	for _, p := range r.Packages {
		fmt.Fprintln(g.Stdout, ui.Visible(packageText(p)))
	}
	for _, c := range r.Conffiles {
		fmt.Fprintf(g.Stdout, "conffile   %s /%s (%s)\n", c.State, ui.Visible(c.Path), ui.Visible(c.Package))
	}
	hidden := map[string]int{}
	for _, f := range r.Files {
		if f.Package != "" && !all {
			hidden[f.Package]++
			continue
		}
		fmt.Fprintln(g.Stdout, fileText(f))
	}
	if len(hidden) > 0 {
		n := 0
		for _, c := range hidden {
			n += c
		}
		g.Notef("and %s of packages (--files lists them)", ui.Count(int64(n), "file"))
	}
}

func packageText(p dpkg.Change) string {
	versions := p.To
	switch {
	case p.From != "" && p.To != "":
		versions = p.From + " -> " + p.To
	case p.To == "":
		versions = p.From
	}
	return fmt.Sprintf("%-10s %s %s", p.Kind, p.Package, versions)
}

func fileText(f sysdiff.File) string {
	mark := map[treediff.Kind]string{
		treediff.Added: "A", treediff.Removed: "D", treediff.Changed: "M", treediff.Renamed: "R", treediff.Metadata: "m",
	}[f.Kind]
	name := "/" + ui.Visible(f.Path)
	if f.Type == "directory" && f.Path != "" {
		name += "/"
	}
	line := mark + " " + name
	if f.Kind == treediff.Renamed {
		line += " (was /" + ui.Visible(f.From) + ")"
	}
	switch {
	case f.Kind == treediff.Metadata:
		line += " (" + strings.Join(f.What, ", ") + ")"
	case f.Type != "file":
	case f.Kind == treediff.Added:
		line += "  " + ui.Bytes(f.After)
	case f.Kind == treediff.Removed:
		line += "  " + ui.Bytes(f.Before)
	case f.Before != f.After:
		line += "  " + ui.Bytes(f.Before) + " -> " + ui.Bytes(f.After)
	}
	return line
}

// Patch prints every text file that differs as a unified diff, and of all
// else one line.
func Patch(g *cli.Globals, before, after *layered.View, r *sysdiff.Report, all bool) error {
	for _, f := range r.Files {
		if f.Package != "" && !all || f.Kind == treediff.Metadata {
			continue
		}
		if f.Type != "file" && f.Type != "symlink" {
			if f.Kind != treediff.Changed {
				continue
			}
		}
		old, okOld, errOld := text(before, f.Old)
		now, okNew, errNew := text(after, f.New)
		if err := errors.Join(errOld, errNew); err != nil {
			return err
		}
		a, b := "a/"+ui.Visible(f.Path), "b/"+ui.Visible(f.Path)
		if f.From != "" {
			a = "a/" + ui.Visible(f.From)
		}
		if f.Old == nil {
			a = "/dev/null"
		}
		if f.New == nil {
			b = "/dev/null"
		}
		if !okOld || !okNew {
			fmt.Fprintf(g.Stdout, "Binary files %s and %s differ\n", a, b)
			continue
		}
		g.Stdout.Write(unified(a, old, b, now))
	}
	return nil
}

// text is a node's content as text: of a symbolic link its target.
func text(v *layered.View, n *layered.Node) ([]byte, bool, error) {
	if n != nil && n.Stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		s, err := v.Readlink(n)
		return []byte(s + "\n"), true, err
	}
	return sysdiff.Text(v, n)
}

// unified is a unified diff as "patch -p1" takes it.
func unified(a string, old []byte, b string, now []byte) []byte {
	d := diff.Diff(a, old, b, now)
	// Its first line is for people who know the library.
	if i := strings.IndexByte(string(d), '\n'); i >= 0 && strings.HasPrefix(string(d), "diff ") {
		d = d[i+1:]
	}
	return []byte(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return ui.Printable(r)
	}, string(d)))
}

// Compare compares two roots, and shows how far it is.
func Compare(ctx context.Context, g *cli.Globals, before, after *layered.View) (*sysdiff.Report, error) {
	show := g.Progress()
	defer show.End()
	return sysdiff.Compare(ctx, before, after, func(names int64) {
		show.Update(progress.State{Phase: "comparing", Of: ui.Count(names, "name")})
	})
}

package rebase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images/layered"
	"rubus/images/treediff"
)

// Verdict is what becomes of a board's change.
type Verdict string

// The verdicts.
const (
	Keep     Verdict = "keep"
	Drop     Verdict = "drop"
	Conflict Verdict = "conflict"
)

// Trees are what is compared.
type Trees struct {
	Was, Board, Next *layered.View
	// Given are paths at which the board's tree has what it is given anew at each boot:
	// they are nobody's change, and not carried over.
	Given map[string]bool
}

// Item is the verdict on one change.
type Item struct {
	Path    string        `json:"path"`
	Kind    treediff.Kind `json:"kind"`
	Verdict Verdict       `json:"verdict"`
	// Why is a few words.
	Why string `json:"why"`
	// Package is the one that the file belongs to, if that decided.
	Package string `json:"package,omitempty"`

	change treediff.Change
}

// Package is what becomes of a package that both sides, or the board alone, changed.
type Package struct {
	Name string `json:"name"`
	Arch string `json:"arch"`
	Was  string `json:"was,omitempty"`
	// Board and Next are the versions installed; "": none.
	Board string `json:"board,omitempty"`
	Next  string `json:"next,omitempty"`
	// Verdict is Keep when the board's holds, Drop when that of next does.
	Verdict Verdict `json:"verdict"`
}

// Plan is all verdicts of one board.
type Plan struct {
	Items    []Item    `json:"items"`
	Packages []Package `json:"packages"`

	trees Trees
	// content is what files are to hold that are put together of both sides.
	content map[string][]byte
}

// Count says how many items have a verdict.
func (p *Plan) Count(v Verdict) (n int) {
	for _, i := range p.Items {
		if i.Verdict == v {
			n++
		}
	}
	return n
}

// Changes are the board's changes that are to be carried over, with those in
// conflict when board says so.
func (p *Plan) Changes(board bool) (out []treediff.Change) {
	for _, i := range p.Items {
		if i.Verdict == Keep || board && i.Verdict == Conflict {
			out = append(out, i.change)
		}
	}
	return out
}

// Content is, by path, what regular files among the changes are to hold instead of
// what the board has.
func (p *Plan) Content() map[string][]byte { return p.content }

// Make plans. It reads what the board changed and what next has in its place, and
// changes nothing.
func Make(ctx context.Context, t Trees) (*Plan, error) {
	changes, err := treediff.Plain(ctx, t.Was, t.Board)
	if err != nil {
		return nil, err
	}
	p := &Plan{Items: []Item{}, Packages: []Package{}, trees: t, content: map[string][]byte{}}
	db := newDatabases(t)
	p.Packages = db.decide()
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if t.Given[c.Path] {
			continue
		}
		item, err := p.judge(ctx, db, c)
		if err != nil {
			return nil, err
		}
		p.Items = append(p.Items, item)
	}
	p.hideRemoved(db)
	return p, nil
}

func (p *Plan) judge(ctx context.Context, db *databases, c treediff.Change) (Item, error) {
	i := Item{Path: c.Path, Kind: c.Kind, change: c}
	next, err := lookup(p.trees.Next, c.Path)
	if err != nil {
		return i, err
	}
	if v, why, ok := db.database(c.Path, next != nil, p.content); ok {
		i.Verdict, i.Why = v, why
		return i, nil
	}
	same, err := sameObject(ctx, p.trees.Board, c.New, p.trees.Next, next)
	if err != nil {
		return i, err
	}
	if same {
		i.Verdict, i.Why = Drop, "the new version has the same"
		return i, nil
	}
	unchanged, err := sameObject(ctx, p.trees.Was, c.Old, p.trees.Next, next)
	if err != nil {
		return i, err
	}
	if name, v, ok := db.owner(c.Path); ok && !db.isEdited(c, p.trees.Board) {
		i.Package, i.Verdict, i.Why = name, v, "its package is the board's"
		if v == Drop {
			i.Why = "its package is newer in the new version"
		}
		return i, nil
	}
	clash, err := p.noDir(c)
	if err != nil {
		return i, err
	}
	switch {
	case clash:
		i.Verdict, i.Why = Conflict, "the new version has something else where its directory was"
	case unchanged:
		i.Verdict, i.Why = Keep, "the new version did not change it"
	case c.Path == cachePath && next != nil && next.IsRegular() && c.New != nil && c.New.IsRegular():
		i.Verdict, i.Why, err = p.judgeCache()
		return i, err
	case isDerived(c.Path):
		i.Verdict, i.Why = Drop, "it is made anew"
	case strings.HasPrefix(c.Path, "var/log/"):
		i.Verdict, i.Why = Keep, "a log is the board's own"
	case c.Path == autoPath && next != nil && c.New != nil && c.New.IsRegular():
		text, err := db.merged(autoPath)
		if err != nil {
			return i, err
		}
		p.content[autoPath] = text
		i.Verdict, i.Why = Keep, "put together of both"
	default:
		i.Verdict, i.Why = Conflict, "both changed it"
	}
	return i, nil
}

// noDir says whether the new version has something that is no directory where a change
// needs one.
func (p *Plan) noDir(c treediff.Change) (bool, error) {
	for at := path.Dir(c.Path); c.New != nil && at != "."; at = path.Dir(at) {
		n, err := lookup(p.trees.Next, at)
		if err != nil || n != nil {
			return n != nil && !n.IsDir(), err
		}
	}
	return false, nil
}

// isDerived says whether programs make a file of others, so that neither side's matters.
func isDerived(p string) bool {
	for _, dir := range []string{"var/cache", "var/lib/apt/lists"} {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return p == cachePath || path.Base(p) == "__pycache__" || strings.Contains(p, "/__pycache__/")
}

func lookup(v *layered.View, p string) (*layered.Node, error) {
	n, err := v.Lookup(p)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil //nolint:nilnil // there is none
	}
	return n, err
}

// sameObject says whether two names show the same, but for times; of directories the
// names in them do not count.
func sameObject(ctx context.Context, a *layered.View, x *layered.Node, b *layered.View, y *layered.Node) (bool, error) {
	switch {
	case x == nil || y == nil:
		return x == nil && y == nil, nil
	case !x.IsDir() && x.ID() == y.ID():
		return true, nil
	case x.Stat.Mode != y.Stat.Mode, x.Stat.Uid != y.Stat.Uid, x.Stat.Gid != y.Stat.Gid, x.Stat.Rdev != y.Stat.Rdev:
		return false, nil
	}
	xa, err := a.Xattrs(x)
	if err != nil {
		return false, err
	}
	ya, err := b.Xattrs(y)
	if err != nil || !maps.Equal(xa, ya) {
		return false, err
	}
	switch x.Stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		s, err := a.Readlink(x)
		if err != nil {
			return false, err
		}
		t, err := b.Readlink(y)
		return s == t, err
	case unix.S_IFREG:
		return sameContent(ctx, a, x, b, y)
	}
	return true, nil
}

func sameContent(ctx context.Context, a *layered.View, x *layered.Node, b *layered.View, y *layered.Node) (bool, error) {
	if x.Stat.Size != y.Stat.Size {
		return false, nil
	}
	f, err := a.Open(x)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := b.Open(y)
	if err != nil {
		return false, err
	}
	defer g.Close()
	return treediff.SameBytes(ctx, f, g, x.Stat.Size)
}

// hideRemoved adds removals of what next's version of a package has, and the board
// removed: files that were not there when it did.
func (p *Plan) hideRemoved(db *databases) {
	have := map[string]bool{}
	for _, i := range p.Items {
		have[i.Path] = true
	}
	for file, name := range db.hidden(p.trees.Next) {
		n, err := lookup(p.trees.Next, file)
		if n == nil && err == nil { // where /bin is a link to usr/bin
			file = "usr/" + file
			n, err = lookup(p.trees.Next, file)
		}
		if err != nil || n == nil || n.IsDir() || have[file] {
			continue
		}
		p.Items = append(p.Items, Item{
			Path: file, Kind: treediff.Removed, Verdict: Keep, Package: name, Why: "the board removed its package",
			change: treediff.Change{Path: file, Kind: treediff.Removed, Type: treediff.TypeOf(n), Old: n},
		})
	}
	slices.SortFunc(p.Items, func(a, b Item) int { return strings.Compare(a.Path, b.Path) })
}

// Check compares a tree in which the plan was carried out with what was wanted: what is
// kept shows as the board had it, and all else as the new version has it. board says that
// conflicts were the board's.
func (p *Plan) Check(ctx context.Context, result *layered.View, board bool) error {
	kept := map[string]bool{}
	above := map[string]bool{} // directories that what is kept needs
	for _, i := range p.Items {
		if i.Verdict != Keep && (!board || i.Verdict != Conflict) {
			continue
		}
		kept[i.Path] = true
		for at := path.Dir(i.Path); i.change.New != nil && at != "." && !above[at]; at = path.Dir(at) {
			above[at] = true
		}
		if err := p.checkItem(ctx, i, result); err != nil {
			return fmt.Errorf("carrying over %q: %w", "/"+i.Path, err)
		}
	}
	changes, err := treediff.Plain(ctx, p.trees.Next, result)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if !kept[c.Path] && !above[c.Path] && !isHidden(c, kept) {
			return fmt.Errorf("carrying over: %q would be %s, and nobody wanted that", "/"+c.Path, c.Kind)
		}
	}
	return nil
}

func (p *Plan) checkItem(ctx context.Context, i Item, result *layered.View) error {
	got, err := lookup(result, i.Path)
	if err != nil {
		return err
	}
	if want, ok := p.content[i.Path]; ok {
		b, err := result.ReadFile(i.Path, int64(len(want)))
		if err != nil || !bytes.Equal(b, want) {
			return errors.Join(err, errors.New("it came out as something else"))
		}
		return nil
	}
	same, err := sameObject(ctx, p.trees.Board, i.change.New, result, got)
	if err == nil && !same {
		err = errors.New("it came out as something else")
	}
	return err
}

// isHidden says whether a name of the new version went with one above it that the board
// removed, or made something else.
func isHidden(c treediff.Change, kept map[string]bool) bool {
	if c.Kind != treediff.Removed {
		return false
	}
	for at := path.Dir(c.Path); at != "."; at = path.Dir(at) {
		if kept[at] {
			return true
		}
	}
	return false
}

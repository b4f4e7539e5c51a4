package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"rubus/boot/rootfile"
)

// Seed puts an identity into a root.
type Seed struct {
	Store Store
	Wish  *Wish
	// Root is where the root is mounted, Upper the directory with the board's own
	// writes: what makes the board one board and is there already, is kept when the
	// server has none yet.
	Root, Upper string
	// Claim takes a host name that the board gave itself for it, unless another board
	// has it, and then says which; nil: there are no others.
	Claim func(name string) (other string)
	// Golden says what the image has at a path, for a file that is given no more.
	Golden func(path string) (Golden, error)
}

// Result is what seeding did.
type Result struct {
	// Hostname is what the board is called.
	Hostname string
	// Changed are the paths that were written or taken back.
	Changed []string
	// Problems say what the board has to do without, and why.
	Problems []string
}

// target is a file as the board is to have it.
type target struct {
	rootfile.File

	secret, shared, listed bool
	// dir, if not nil, is made first.
	dir *rootfile.File
}

// Do writes what is not there as it should be; done again it writes nothing. What cannot
// be written is a problem and holds up nothing else: a board that boots without its
// message of the day is better than one that does not boot. The error says that the
// identity itself cannot be read or kept, and nothing was written. Nobody may run on
// the root.
func (s Seed) Do() (Result, error) {
	root, err := rootfile.Open(s.Root)
	if err != nil {
		return Result{}, err
	}
	defer root.Close()
	upper, err := rootfile.Open(s.Upper)
	if err != nil {
		return Result{}, err
	}
	defer upper.Close()
	if err := s.Store.finish(); err != nil {
		return Result{}, err
	}
	before, err := s.Store.Given()
	if err != nil {
		return Result{}, err
	}
	p := planner{Seed: s, root: root, upper: upper, before: before, facts: s.Wish.Facts}
	if err := p.plan(); err != nil {
		return Result{}, err
	}
	given := p.given()
	out := Result{Hostname: given.Hostname, Problems: p.problems}
	// What the board is about to have is written down first: nothing of it may come
	// into an image because of a crash in between.
	if err := s.save(before, given, p.made); err != nil {
		return Result{}, err
	}
	saved := given.clone()
	tell := func(path string, changed bool, err error) {
		if err != nil {
			out.Problems = append(out.Problems, err.Error())
		}
		if changed && err == nil {
			out.Changed = append(out.Changed, path)
		}
	}
	for i := range given.Files {
		if f := &given.Files[i]; f.Now && (f.Listed || isHostKey(f.Path)) && !p.isTarget(f.Path) && !p.failed[f.Path] {
			changed, err := s.takeBack(root, f)
			f.Now = err != nil
			tell(f.Path, changed, err)
		}
	}
	for _, t := range p.targets {
		var err error
		if t.dir != nil {
			err = root.Mkdir(t.dir.Path, t.dir.Mode, t.dir.UID, t.dir.GID)
		}
		changed := false
		if err == nil {
			changed, err = root.Write(t.File)
		}
		tell(t.Path, changed, err)
	}
	// Only what is on the disk is written down as taken back.
	if err := root.Sync(); err != nil {
		out.Problems = append(out.Problems, err.Error())
		return out, nil
	}
	return out, s.save(saved, given, nil)
}

// save writes down what the board has been given, unless it is as before, together with
// what was made for it.
func (s Seed) save(before, now Given, made map[string][]byte) error {
	a, err1 := before.encode()
	b, err2 := now.encode()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	files := maps.Clone(made)
	if !bytes.Equal(a, b) {
		if files == nil {
			files = map[string][]byte{}
		}
		files[givenFile] = b
	}
	if len(files) == 0 {
		return nil
	}
	return s.Store.keep(files)
}

// takeBack puts what the image has in the place of a file that the board is given no
// more; one that the board changed is the board's now.
func (s Seed) takeBack(root *rootfile.Root, f *GivenFile) (changed bool, err error) {
	info, err := root.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode.IsRegular() || info.Size > maxFile) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	data, _, err := root.Read(f.Path, maxFile)
	if err != nil {
		return false, err
	}
	if !slices.Contains(f.Digests, digest(data)) {
		return false, nil
	}
	g, err := s.Golden(f.Path)
	if g.Close != nil {
		defer g.Close()
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: what the image has in its place: %w", f.Path, err)
	case !g.Exists:
		return true, root.Remove(f.Path)
	case g.Target != "":
		return true, root.Link(f.Path, g.Target)
	}
	g.File.Path = f.Path
	return true, root.Put(g.File)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// maxDigests bounds the contents of one file that are remembered, and maxLines the
// lines of one user.
const (
	maxDigests = 16
	maxLines   = 1024
)

// given is what the board has been given when the targets are written.
func (p *planner) given() Given {
	g := Given{Hostname: p.facts.Hostname, OwnName: p.own, KnowsName: true, MachineID: p.machineID, HostKeys: p.hostKeys, Lines: p.lines}
	for _, f := range p.before.Files {
		f.Digests = slices.Clone(f.Digests)
		g.Files = append(g.Files, f)
	}
	for _, t := range p.targets {
		i := slices.IndexFunc(g.Files, func(f GivenFile) bool { return f.Path == t.Path })
		if i < 0 {
			g.Files = append(g.Files, GivenFile{Path: t.Path})
			i = len(g.Files) - 1
		}
		f := &g.Files[i]
		// What was secret once stays so: its digests are among the others.
		f.Secret, f.Shared, f.Listed, f.Now = f.Secret || t.secret, t.shared, t.listed, true
		d := digest(t.Data)
		f.Digests = slices.DeleteFunc(f.Digests, func(x string) bool { return x == d })
		f.Digests = slices.Insert(f.Digests, 0, d)
		f.Digests = f.Digests[:min(len(f.Digests), maxDigests)]
	}
	slices.SortFunc(g.Files, func(a, b GivenFile) int { return strings.Compare(a.Path, b.Path) })
	return g
}

func (p *planner) isTarget(path string) bool {
	return slices.ContainsFunc(p.targets, func(t target) bool { return t.Path == path })
}

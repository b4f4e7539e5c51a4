package rebase

import (
	"crypto/md5" //nolint:gosec // it is what dpkg records
	"encoding/hex"
	"io"
	"path"
	"slices"
	"strings"

	"rubus/images/dpkg"
	"rubus/images/layered"
	"rubus/images/treediff"
)

// databases are the package databases of the three trees, and who wins.
type databases struct {
	trees            Trees
	was, board, next dpkg.DB
	// wins says, by key, whose state of a package holds: Keep the board's, Drop next's.
	// Packages that neither changed are not in it.
	wins map[string]Verdict
	// owners are the files of packages that the board changed, in its tree, in the
	// old one and in next.
	owners dpkg.Owners
	// names has wins by the package's name, whatever its architecture.
	names map[string]Verdict
	// conffiles are what packages of the board, and of the old version, brought.
	conffiles []map[string]dpkg.Conffile
	// removed are packages that the board removed and next still has.
	removed map[string]bool
}

const maxList = 16 << 20

func newDatabases(t Trees) *databases {
	d := &databases{
		trees: t, was: dpkg.Read(t.Was.ReadFile), board: dpkg.Read(t.Board.ReadFile), next: dpkg.Read(t.Next.ReadFile),
		wins: map[string]Verdict{}, names: map[string]Verdict{}, owners: dpkg.Owners{}, removed: map[string]bool{},
	}
	d.conffiles = []map[string]dpkg.Conffile{d.board.Conffiles(), d.was.Conffiles()}
	return d
}

// there is a package as one side has it: its state and version.
func there(db dpkg.DB, key string) (state string, installed string) {
	p, ok := db[key]
	if !ok {
		return "", ""
	}
	if p.Installed() {
		installed = p.Version
	}
	return p.Status + " " + p.Version, installed
}

// decide says of each package that the board changed whose state holds.
func (d *databases) decide() []Package {
	keys := map[string]bool{}
	for k := range d.was {
		keys[k] = true
	}
	for k := range d.board {
		keys[k] = true
	}
	out := []Package{}
	for k := range keys {
		was, wasInstalled := there(d.was, k)
		board, boardInstalled := there(d.board, k)
		next, nextInstalled := there(d.next, k)
		if board == was {
			continue
		}
		v := Keep
		switch {
		case board == next:
			v = Drop
		case next == was:
		case boardInstalled == "" && wasInstalled != "":
			d.removed[k] = true // the board wants it gone, in whatever version
		case dpkg.CompareVersions(nextInstalled, boardInstalled) >= 0 && nextInstalled != "":
			v = Drop
		}
		if boardInstalled == "" && nextInstalled != "" && v == Keep {
			d.removed[k] = true
		}
		name, arch, _ := strings.Cut(k, ":")
		d.wins[k], d.names[name] = v, v
		out = append(out, Package{Name: name, Arch: arch, Was: wasInstalled, Board: boardInstalled, Next: nextInstalled, Verdict: v})
		for _, tree := range []*layered.View{d.trees.Was, d.trees.Board, d.trees.Next} {
			addList(d.owners, tree, name, arch)
		}
	}
	slices.SortFunc(out, func(a, b Package) int { return strings.Compare(a.Name+":"+a.Arch, b.Name+":"+b.Arch) })
	return out
}

func addList(o dpkg.Owners, v *layered.View, name, arch string) {
	for _, n := range []string{name, name + ":" + arch} {
		if b, err := v.ReadFile(path.Join(dpkg.InfoDir, n+".list"), maxList); err == nil {
			o.Add(n+".list", b)
		}
	}
}

// owner is the changed package that has a file, and its verdict.
func (d *databases) owner(p string) (string, Verdict, bool) {
	name := d.owners.Of(p)
	if name == "" {
		return "", "", false
	}
	v, ok := d.names[name]
	return name, v, ok
}

// isEdited says whether a conffile is not what the board's package brought: then
// somebody edited it, and the package does not decide.
func (d *databases) isEdited(c treediff.Change, board *layered.View) bool {
	for _, conffiles := range d.conffiles {
		have, ok := conffiles[c.Path]
		if !ok {
			continue
		}
		if c.New == nil || !c.New.IsRegular() || c.New.Stat.Size > dpkg.MaxConffile {
			return true
		}
		f, err := board.Open(c.New)
		if err != nil {
			return true
		}
		h := md5.New() //nolint:gosec // as above
		_, err = io.Copy(h, f)
		f.Close()
		return err != nil || hex.EncodeToString(h.Sum(nil)) != have.MD5
	}
	return false
}

// database judges the files of the package database itself. Those of one package go with
// it, and the list of all is put together of both sides.
func (d *databases) database(p string, inNext bool, content map[string][]byte) (Verdict, string, bool) {
	const dir = "var/lib/dpkg"
	switch {
	case p == dpkg.StatusPath:
		text, err := d.merged(p)
		if err != nil || !inNext {
			return Conflict, "the package databases cannot be put together", true
		}
		content[p] = text
		return Keep, "put together of both", true
	case p == dir+"/status-old" || p == dir+"/available" || p == dir+"/lock" || p == dir+"/lock-frontend":
		return Drop, "dpkg makes it anew", true
	case strings.HasPrefix(p, dpkg.InfoDir+"/"):
		name := path.Base(p)
		name = strings.TrimSuffix(name, path.Ext(name))
		name, _, _ = strings.Cut(name, ":")
		if v, ok := d.names[name]; ok {
			return v, "it goes with its package", true
		}
	}
	return "", "", false
}

// autoPath says which packages apt installed for others, in stanzas as of the status file.
const autoPath = "var/lib/apt/extended_states"

// merged is a file of stanzas, next's with the board's state of the packages whose state holds.
func (d *databases) merged(path string) ([]byte, error) {
	next, err := d.trees.Next.ReadFile(path, dpkg.MaxStatus)
	if err != nil {
		return nil, err
	}
	board, err := d.trees.Board.ReadFile(path, dpkg.MaxStatus)
	if err != nil {
		return nil, err
	}
	text := dpkg.Stanzas(next)
	own := dpkg.Stanzas(board)
	for k, v := range d.wins {
		if v != Keep {
			continue
		}
		if s, ok := own[k]; ok {
			text[k] = s
		} else {
			delete(text, k)
		}
	}
	return dpkg.Join(text), nil
}

// hidden are the files, by path, that next has of packages whose state is the board's and
// that the board's version, if it has any, lacks.
func (d *databases) hidden(next *layered.View) map[string]string {
	gone, kept := dpkg.Owners{}, dpkg.Owners{}
	for k := range d.next {
		if name, arch, _ := strings.Cut(k, ":"); d.wins[k] == Keep && d.was[k].Version != d.next[k].Version {
			addList(gone, next, name, arch)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	for k := range d.next {
		if name, arch, _ := strings.Cut(k, ":"); d.wins[k] != Keep {
			addList(kept, next, name, arch)
		}
	}
	for k := range d.board {
		if name, arch, _ := strings.Cut(k, ":"); d.wins[k] == Keep {
			addList(kept, d.trees.Board, name, arch)
		}
	}
	out := map[string]string{}
	for file, name := range gone {
		if _, conffile := d.conffiles[0][file]; kept.Of(file) == "" && !conffile {
			out[file] = name
		}
	}
	return out
}

package bootset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What boot files come to follows from the image alone while the board has written
// nothing that they depend on: it is found out for one board, and the same for the next.
// That a board wrote is seen in its upper and in the overlay's index, each time.

// shared is what was found for one image, one kind of board and its lines in config.txt.
// It does not change once it is made.
type shared struct {
	report Report
	set    Set
}

// finding is a report that may come to be shared, by the set that is taken with it.
type finding struct {
	cache  *Cache
	key    string
	report Report
}

// maxShared bounds the findings that are remembered.
const maxShared = 64

func (c *Cache) shared(key string) *shared {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found[key]
}

func (c *Cache) share(key string, s *shared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found == nil || len(c.found) >= maxShared {
		c.found = map[string]*shared{}
	}
	c.found[key] = s
}

// golden is a View, or a Source, of files that the board may not have written to.
type golden interface {
	// Golden names the image that all follows from; "": the board wrote, or nobody can
	// tell. What it was Golden for once may be its own a moment later.
	Golden() string
}

// keyOf is what a Check of an image's files follows from; "": not from the image alone.
func keyOf(v any, models []Model) string {
	g, ok := v.(golden)
	if !ok {
		return ""
	}
	image := g.Golden()
	if image == "" {
		return ""
	}
	models = slices.Clone(models)
	for i := range models {
		models[i].Board.Serial = 0 // see Settings.BySerial
	}
	return fmt.Sprintf("%s %+v", image, models)
}

// clone is a Report that may be added to.
func (r Report) clone() Report {
	for _, list := range []*[]string{&r.Models, &r.Kernels, &r.Releases, &r.Files, &r.Broken, &r.Warnings} {
		*list = slices.Clone(*list)
	}
	return r
}

// sharedSet is the set that another board's Take has come to; nil: there is none, or this
// board has written since the Check.
func (r *Report) sharedSet(src Source) *Set {
	if r.found == nil {
		return nil
	}
	s := r.found.cache.shared(r.found.key)
	if s == nil || !r.isGolden(src) {
		return nil
	}
	set := s.set
	return &set
}

// isGolden says whether the files of src are those that were checked, of the image.
func (r *Report) isGolden(src Source) bool {
	g, ok := src.(golden)
	return ok && strings.HasPrefix(r.found.key, g.Golden()+" ")
}

// share remembers a set that was taken by this report, if all of it is the image's.
func (r *Report) share(src Source, set *Set) {
	isOwn := func(e Entry) bool { return e.Layer == "" }
	if r.found != nil && !slices.ContainsFunc(set.Files, isOwn) && r.isGolden(src) {
		r.found.cache.share(r.found.key, &shared{r.found.report, *set})
	}
}

// besides are the directories of a root that no boot file and no kernel module is in, be
// it by a link: those where a board has its identity, and what is another one after each boot.
func besides() []string { return []string{"etc", "home", "root", "run", "tmp"} }

// maxBesides bounds what is looked at to find out that a board wrote elsewhere.
const maxBesides = 64

// Golden implements golden. A link in the boot directory may lead anywhere.
func (r *Root) Golden() string {
	first, _, _ := strings.Cut(r.m.BootDir, "/")
	if r.trouble || r.own.HasLinks() || slices.Contains(besides(), first) {
		return ""
	}
	if !all(r.m.Upper, func(e fs.DirEntry) bool { return slices.Contains(besides(), e.Name()) }) {
		return ""
	}
	// A golden file that was written to by another name, or by its handle, shows in the
	// index alone: as a file. One that was replaced has a whiteout there.
	work := filepath.Join(filepath.Dir(r.m.Upper), "work")
	if !all(filepath.Join(work, "index"), func(e fs.DirEntry) bool { return e.IsDir() || e.Type()&fs.ModeCharDevice != 0 }) {
		return ""
	}
	if _, err := os.Lstat(filepath.Join(work, "kept")); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return fmt.Sprintf("%q %q %q", r.m.Layers, r.m.BootDir, r.m.Config)
}

// all says that a directory can be read, has few entries, and ok of each.
func all(dir string, ok func(fs.DirEntry) bool) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	entries, err := d.ReadDir(maxBesides + 1)
	if errors.Is(err, io.EOF) {
		err = nil // there are none
	}
	return err == nil && len(entries) <= maxBesides && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !ok(e) })
}

package attempt

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"rubus/boot/bootfs"
	"rubus/boot/bootset"
)

// Boot is one boot of a board: which boot files it is given, all of one moment. It does not
// change once it is made.
type Boot struct {
	// ID is for its kernel command line; Slot numbers its root.
	ID   string
	Slot int
	// Files are kept; nil: those in the root, as they are.
	Files *bootset.Served
	// Err is why no files are given out.
	Err error
	// LastGood says that Files are those of the last good boot, because of Why.
	LastGood bool
	Why      string
	// Reports says that the root has the unit which reports the boot.
	Reports bool
	// Kernels and Releases are of the files that are given out, Warnings what may be wrong
	// with them.
	Kernels, Releases, Warnings []string

	resumed bool
}

// newID is a random id of a boot.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	return hex.EncodeToString(b[:])
}

// Ground is what a boot stands on.
type Ground struct {
	// Slot numbers the root, which is mounted at Root.
	Slot int
	Root bootset.Mounted
	// Models are those that the board may be. Guessed says that nothing tells: then those
	// count that the root has firmware of.
	Models  []bootset.Model
	Guessed bool
}

// live opens files of the root as they are at each moment.
func (g *Ground) live() func(string) (*bootfs.File, error) {
	return bootset.Live(g.Root.Dir, g.Root.BootDir)
}

// Begin looks at the boot files of a root and decides which ones the boot gets that begins
// on it. The boot before is over: see End. The error says that the boot cannot be written
// down; it begins all the same.
func (b *Boots) Begin(g Ground) (*Boot, error) {
	boot := &Boot{ID: newID(), Slot: g.Slot}
	root, err := bootset.OpenRoot(g.Root)
	if err != nil {
		// There is no boot directory, or a link in its place: each file asked for
		// is refused with the reason.
		boot.Warnings = []string{err.Error()}
		b.mu.Lock()
		defer b.mu.Unlock()
		return boot, b.begin(boot, nil)
	}
	defer root.Close()
	v := root.View()
	models := g.Models
	if g.Guessed {
		models = bootset.Supported(v, models)
	}
	report := bootset.Check(v, models, b.opt.Insides)
	boot.Reports = root.Reports()
	boot.Kernels, boot.Releases, boot.Warnings = report.Kernels, report.Releases, report.Warnings
	b.mu.Lock()
	defer b.mu.Unlock()
	lastGood, err := b.store.LastGood()
	if err != nil {
		boot.warn(err.Error())
	}
	set := b.take(boot, root, report, &g)
	boot.Why = b.unfit(report, keyOf(set), keyOf(lastGood))
	switch {
	case boot.Why == "":
		boot.warn(report.Broken...)
	case b.fallBack(boot, lastGood, root, models, &g):
		set = lastGood
	case report.OK():
		boot.warn(boot.Why) // its own files failed, but there are no others
		boot.Why = ""
	default:
		if lastGood == nil {
			boot.Why += "; no good boot is on record, whose files it could get"
		}
		boot.Err = errors.New("it is given no boot files: " + boot.Why)
	}
	return boot, b.begin(boot, set)
}

func (b *Boot) warn(why ...string) { b.Warnings = append(b.Warnings, why...) }

func keyOf(s *bootset.Set) string {
	if s == nil {
		return ""
	}
	return s.Key
}

// take keeps the root's own boot files and gives them to a boot, unless they are not to be
// given out; nil: none are kept. mu is held.
func (b *Boots) take(boot *Boot, root *bootset.Root, r bootset.Report, g *Ground) *bootset.Set {
	if !r.OK() && !b.opt.WarnOnly {
		return nil
	}
	set, err := b.store.Take(root, r)
	if err != nil {
		boot.warn("its boot files are served as they are at each moment: " + err.Error())
	}
	if set != nil {
		boot.Files = b.store.Serve(set, g.live())
	}
	return set
}

// unfit is why a boot is not to have the root's own boot files, which are the set of key
// own; "": it is. mu is held.
func (b *Boots) unfit(r bootset.Report, own, lastGood string) string {
	switch {
	case !r.OK() && !b.opt.WarnOnly:
		return strings.Join(r.Broken, "; ")
	case b.history.FallsBack(own, lastGood, b.opt.FallbackAfter):
		return fmt.Sprintf("%d boots in a row failed with the board's own boot files, which changed since", b.history.Failures)
	}
	return ""
}

// fallBack gives a boot the files of the last good one, if there was one and they
// fit the root as it is now. mu is held.
func (b *Boots) fallBack(boot *Boot, lastGood *bootset.Set, root *bootset.Root, models []bootset.Model, g *Ground) bool {
	if lastGood == nil {
		return false
	}
	served := b.store.Serve(lastGood, nil)
	r := bootset.Check(root.ViewOf(served, configOf(served, g.Root.Config)), models, b.opt.Insides)
	if !r.OK() {
		boot.Why += "; the files of its last good boot do not fit: " + strings.Join(r.Broken, "; ")
		return false
	}
	boot.Files, boot.LastGood = served, true
	boot.Kernels, boot.Releases = r.Kernels, r.Releases
	return true
}

// configOf gives config.txt of kept files as a board that has lines of its own gets it.
func configOf(files bootfs.Files, lines []string) func() []byte {
	return func() []byte {
		var own []byte
		if file, err := files.Open("config.txt"); err == nil {
			own, _ = io.ReadAll(io.LimitReader(file, bootfs.MaxConfig))
			file.Close()
		}
		text, _ := bootfs.Config(own, lines)
		return text
	}
}

// begin writes a new boot down, which was given a set; nil: none that is kept. mu is held.
func (b *Boots) begin(boot *Boot, set *bootset.Set) error {
	b.history.Last = bootset.Attempt{
		ID: boot.ID, Begun: b.opt.Now(), Slot: boot.Slot,
		Key: keyOf(set), LastGood: boot.LastGood, Reports: boot.Reports,
	}
	b.present, b.now, b.looked = set, boot, 0
	return b.store.Remember(b.history)
}

// IsInterrupted says that the board was in its last boot when an earlier process ended, and
// may be in it still.
func (b *Boots) IsInterrupted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isInterrupted()
}

func (b *Boots) isInterrupted() bool {
	a := b.history.Last
	return a.Key != "" && !a.Ended && a.Good.IsZero() && a.Begun.Before(b.opt.Started) && b.opt.Now().Sub(a.Begun) <= b.opt.Within
}

// Resume goes on with a boot that was interrupted, on the same files; nil: there is none, or
// its files are not kept.
func (b *Boots) Resume(g Ground) *Boot {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.isInterrupted() {
		return nil
	}
	a := b.history.Last
	load, live := b.store.Current, g.live()
	if a.LastGood {
		load, live = b.store.LastGood, nil
	}
	set, err := load()
	if err != nil || set == nil || set.Key != a.Key {
		return nil
	}
	b.present = set
	b.now = &Boot{
		ID: a.ID, Slot: a.Slot, Files: b.store.Serve(set, live), LastGood: a.LastGood, Why: "the daemon started anew in the middle of the boot",
		Reports: a.Reports, Kernels: set.Kernels, Releases: set.Releases, resumed: true,
	}
	return b.now
}

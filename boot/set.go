package boot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rubus/boot/bootfs"
	"rubus/boot/bootset"
	"rubus/boot/record"
	"rubus/config/device"
)

// chosen is what a boot attempt stands on besides its slot: which boot files it
// is given, all of one moment. It does not change once it is made.
type chosen struct {
	// id is the boot's, for its kernel command line; slot numbers its root.
	id   string
	slot int
	// files are kept; nil: those in the root, as they are.
	files *bootset.Served
	// err is why no files are given out.
	err error
	// lastGood says that files are those of the last good boot, because of why.
	lastGood bool
	why      string
}

// newBootID is a random id of a boot.
func newBootID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	return hex.EncodeToString(b[:])
}

// settle looks at the boot files of a slot that is mounted and decides which ones
// the boot attempt that begins now gets. asked is the file asked for first: it
// tells the board's model when nothing else does. The caller holds work.
func (f *Fleet) settle(b *board, dev *Device, slot record.Slot, asked string) *chosen {
	if c := f.resume(b, dev, slot); c != nil {
		return c
	}
	c := &chosen{id: newBootID(), slot: slot.N}
	f.endAttempt(b)
	root, err := bootset.OpenRoot(f.mountedAt(b.serial, dev, slot))
	if err != nil {
		// There is no boot directory, or a link in its place: each file asked for
		// is refused with the reason.
		f.begin(b, c, bootset.Attempt{}, bootset.Report{Warnings: []string{err.Error()}})
		return c
	}
	defer root.Close()
	v := root.View()
	models := f.models(b, asked)
	if models == nil {
		models = bootset.Supported(v, bootset.Models(b.serial.Uint32()))
	}
	report := bootset.Check(v, models, &f.insides)
	a := bootset.Attempt{Reports: root.Reports()}
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	store := f.setStore(b)
	lastGood, err := store.LastGood()
	if err != nil {
		report.Warnings = append(report.Warnings, err.Error())
	}
	var set *bootset.Set
	if report.OK() || f.opt.WarnOnly {
		set, err = store.Take(root, report)
		if err != nil {
			report.Warnings = append(report.Warnings, "its boot files are served as they are at each moment: "+err.Error())
		}
	}
	if set != nil {
		a.Key = set.Key
		c.files = store.Serve(set, f.liveFiles(b.serial, slot))
	}
	goodKey := ""
	if lastGood != nil {
		goodKey = lastGood.Key
	}
	switch {
	case !report.OK() && !f.opt.WarnOnly:
		c.why = strings.Join(report.Broken, "; ")
	case b.sets.history.FallsBack(a.Key, goodKey, f.opt.FallbackAfter):
		c.why = fmt.Sprintf("%d boots in a row failed with the board's own boot files, which changed since", b.sets.history.Failures)
	default:
		report.Warnings = append(report.Warnings, report.Broken...)
	}
	if c.why != "" {
		f.fallBack(b, dev, store, lastGood, root, models, c, &report)
		a.LastGood = c.lastGood
		if c.lastGood {
			a.Key = goodKey
			set = lastGood
		}
	}
	b.sets.present = set
	f.beginLocked(b, c, a, report)
	return c
}

// mountedAt is where the mounted root of a slot is.
func (f *Fleet) mountedAt(serial device.Serial, dev *Device, slot record.Slot) bootset.Mounted {
	spec := f.spec(serial, slot)
	return bootset.Mounted{
		Dir: spec.Target, BootDir: slot.Boot, Config: dev.Config,
		Upper: filepath.Join(spec.UpperDir, "upper"), Layers: slot.Base.Digests, LayerDir: f.opt.Store.LayerDir,
	}
}

// liveFiles opens files of a root as they are now.
func (f *Fleet) liveFiles(serial device.Serial, slot record.Slot) func(string) (*bootfs.File, error) {
	return bootset.Live(f.spec(serial, slot).Target, slot.Boot)
}

// isResumed says that the attempt which begins is the one that the board was in when an
// earlier daemon ended.
func (f *Fleet) isResumed(b *board) bool {
	b.mu.Lock()
	first := b.chosen == nil && b.ev.DHCP.IsZero()
	b.mu.Unlock()
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	f.setStore(b)
	a := b.sets.history.Last
	return first && a.Key != "" && !a.Ended && a.Good.IsZero() && a.Begun.Before(f.started) && f.opt.Now().Sub(a.Begun) <= f.opt.Limits.Boot
}

// resume goes on with the attempt that the board was in when an earlier daemon
// ended, on the same files; nil: it was in none.
func (f *Fleet) resume(b *board, dev *Device, slot record.Slot) *chosen {
	if !f.isResumed(b) {
		return nil
	}
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	store := f.setStore(b)
	a := b.sets.history.Last
	c := &chosen{id: a.ID, slot: a.Slot, lastGood: a.LastGood, why: "the daemon started anew in the middle of the boot"}
	load, live := store.Current, f.liveFiles(b.serial, slot)
	if a.LastGood {
		load, live = store.LastGood, nil
	}
	set, err := load()
	if err != nil || set == nil || set.Key != a.Key {
		return nil
	}
	c.files, b.sets.present = store.Serve(set, live), set
	b.sets.report = bootset.Report{Kernels: set.Kernels, Releases: set.Releases}
	return c
}

// fallBack gives a boot the files of the last good one, if there was one and they
// fit the root as it is now. Otherwise files that are broken are not given out.
func (f *Fleet) fallBack(b *board, dev *Device, store *bootset.Store, lastGood *bootset.Set, root *bootset.Root, models []bootset.Model, c *chosen, report *bootset.Report) {
	if lastGood != nil {
		served := store.Serve(lastGood, nil)
		r := bootset.Check(root.ViewOf(served, configOf(served, dev)), models, &f.insides)
		if r.OK() {
			c.files, c.lastGood = served, true
			report.Kernels, report.Releases = r.Kernels, r.Releases
			return
		}
		c.why += "; the files of its last good boot do not fit: " + strings.Join(r.Broken, "; ")
	} else if !report.OK() {
		c.why += "; no good boot is on record, whose files it could get"
	}
	if report.OK() {
		report.Warnings = append(report.Warnings, c.why) // its own files failed, but there are no others
		c.why = ""
		return
	}
	c.err = errors.New("it is given no boot files: " + c.why)
}

// configOf gives config.txt of kept files as the board gets it.
func configOf(files bootfs.Files, dev *Device) func() []byte {
	return func() []byte {
		var own []byte
		if file, err := files.Open("config.txt"); err == nil {
			own, _ = io.ReadAll(io.LimitReader(file, bootfs.MaxConfig))
			file.Close()
		}
		text, _ := bootfs.Config(own, dev.Config)
		return text
	}
}

// endAttempt judges the boot before.
func (f *Fleet) endAttempt(b *board) {
	f.lookForReport(b, true) // it may have rebooted right after its report
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	f.setStore(b)
	last := b.sets.history.Last
	if last.ID == "" || last.Ended {
		return
	}
	failed := b.sets.history.End()
	if err := f.setStore(b).Remember(b.sets.history); err != nil {
		f.log.Error("what a board's boots came to cannot be written down", "serial", b.serial, "err", err)
	}
	if !failed {
		return
	}
	text := "the next boot began before this one was reported as good"
	if n := b.sets.history.Failures; n > 1 && !last.LastGood {
		text = fmt.Sprintf("%d boots in a row were not reported as good", n)
	}
	f.log.Warn("a boot failed", "serial", b.serial, "boot", last.ID, "failures", b.sets.history.Failures, "last_good_files", last.LastGood)
	f.tell(Event{Serial: b.serial, Kind: "failed", Boot: last.ID, Text: text})
}

func (f *Fleet) begin(b *board, c *chosen, a bootset.Attempt, r bootset.Report) {
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	f.setStore(b)
	f.beginLocked(b, c, a, r)
}

// beginLocked writes the new attempt down and tells of it. sets.mu is held.
func (f *Fleet) beginLocked(b *board, c *chosen, a bootset.Attempt, r bootset.Report) {
	a.ID, a.Begun, a.Slot = c.id, f.opt.Now(), c.slot
	b.sets.history.Last = a
	b.sets.report = r
	b.sets.why = c.why
	b.sets.looked = 0
	if err := f.setStore(b).Remember(b.sets.history); err != nil {
		f.log.Error("what a board's boots came to cannot be written down", "serial", b.serial, "err", err)
	}
	if c.err != nil {
		if !b.hasTold(f.opt.Now(), "blocked: "+c.why) {
			f.log.Error("a board is given no boot files", "serial", b.serial, "why", c.why)
		}
		f.tell(Event{Serial: b.serial, Kind: "blocked", Boot: c.id, Text: c.why})
		return
	}
	if c.lastGood {
		f.log.Warn("a board gets the boot files of its last good boot", "serial", b.serial, "why", c.why)
	}
	f.tell(Event{
		Serial: b.serial, Kind: "prepared", Boot: c.id, Kernel: strings.Join(r.Kernels, ","),
		Reports: a.Reports, LastGood: c.lastGood, Problem: c.why,
	})
	for i, w := range r.Warnings {
		if i == 8 {
			break
		}
		f.tell(Event{Serial: b.serial, Kind: "warned", Text: w})
		if !b.hasTold(f.opt.Now(), "boot file: "+w) {
			f.log.Warn("a board's boot files may not do", "serial", b.serial, "why", w)
		}
	}
}

// setStore is where a board's sets are kept; what is remembered of its boots is
// read when it is first asked for. sets.mu is held.
func (f *Fleet) setStore(b *board) *bootset.Store {
	s := &bootset.Store{
		Dir: filepath.Join(record.PathsOf(f.opt.State, b.serial).Dir(), "boot"), LayerDir: f.opt.Store.LayerDir, Now: f.opt.Now,
	}
	if !b.sets.read {
		h, err := s.History()
		if err != nil {
			f.log.Warn("what a board's boots came to cannot be read; it is forgotten", "serial", b.serial, "err", err)
		}
		b.sets.history, b.sets.read = h, true
		b.mu.Lock()
		b.ev.Good = h.Last.Good
		b.mu.Unlock()
		// Without it a good boot is none to fall back to. The files of the last boot
		// may not be kept, those of an earlier one are not what it says is good.
		if now, err := s.Current(); err == nil && now != nil && now.Key == h.Last.Key {
			b.sets.present = now
		}
	}
	return s
}

// recall reads what is remembered of a board's boots.
func (f *Fleet) recall(b *board) {
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	f.setStore(b)
}

// forgetBoots drops a board's kept boot files and what is remembered of its
// boots: they were of the writes that are deleted.
func (f *Fleet) forgetBoots(b *board) error {
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	err := f.setStore(b).Forget()
	b.sets.history, b.sets.present, b.sets.report, b.sets.why = bootset.History{}, nil, bootset.Report{}, ""
	return err
}

// BootStatus is what is known of a board's last boot and its files.
type BootStatus struct {
	// ID is the boot's; "" when there was none.
	ID string
	// LastGood says that its files were those of the last good boot, because of
	// Why; with LastGood false Why is the reason for which none were given out.
	LastGood bool
	Why      string
	// Kernels and Releases are of the files that were given out.
	Kernels, Releases []string
	// Reports says that the image has the unit which reports a boot, Good when
	// it did.
	Reports bool
	Good    time.Time
	// Failures counts the boots in a row that failed with the board's own files.
	Failures int
	Warnings []string
}

// bootStatus is the status of a board's last boot.
func (f *Fleet) bootStatus(b *board) BootStatus {
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	f.setStore(b)
	s := &b.sets
	h := s.history
	return BootStatus{
		ID: h.Last.ID, LastGood: h.Last.LastGood, Why: s.why, Kernels: s.report.Kernels, Releases: s.report.Releases,
		Reports: h.Last.Reports, Good: h.Last.Good, Failures: h.Failures, Warnings: s.report.Warnings,
	}
}

// models are the models that a board may be; nil: nothing tells.
func (f *Fleet) models(b *board, asked string) []bootset.Model {
	b.mu.Lock()
	rev := b.revision
	b.mu.Unlock()
	if rev.Known() {
		name, _, _ := strings.Cut(rev.String(), " 1.")
		return []bootset.Model{{Name: "Pi " + name, Board: bootfs.Board{Type: rev.Type(), Processor: rev.Processor(), Serial: b.serial.Uint32()}}}
	}
	all := bootset.Models(b.serial.Uint32())
	switch strings.ToLower(asked) {
	case "start4.elf":
		return all[1:2]
	case "start.elf", "bootcode.bin", "bootsig.bin":
		return all[:1]
	case "config.txt":
		return all[2:]
	}
	return nil
}

// Fetched notes that a board has read a whole file.
func (f *Fleet) Fetched(serial device.Serial, name string) {
	b := f.known(serial)
	if b == nil {
		return
	}
	b.sets.mu.Lock()
	defer b.sets.mu.Unlock()
	h := &b.sets.history
	if !b.sets.read || h.Last.Loaded || !slices.ContainsFunc(b.sets.report.Kernels, func(k string) bool { return strings.EqualFold(k, name) }) {
		return
	}
	h.Last.Loaded = true
	if err := f.setStore(b).Remember(*h); err != nil {
		f.log.Error("what a board's boots came to cannot be written down", "serial", serial, "err", err)
	}
}

package boot

import (
	"path/filepath"
	"strings"
	"time"

	"rubus/boot/attempt"
	"rubus/boot/bootset"
	"rubus/boot/record"
	"rubus/config/device"
)

// recall reads what a board's boots came to.
func (f *Fleet) recall(b *board) *attempt.Boots {
	boots, err := attempt.Open(f.attempts, filepath.Join(record.PathsOf(f.opt.State, b.serial).Dir(), "boot"))
	if err != nil {
		f.log.Warn("what a board's boots came to cannot be read; it is forgotten", "serial", b.serial, "err", err)
	}
	b.mu.Lock()
	b.ev.Good = boots.Last().Good
	b.mu.Unlock()
	return boots
}

// settle begins a boot on a slot that is mounted, or goes on with the one that an earlier
// daemon began. asked is the file asked for first. The caller holds work.
func (f *Fleet) settle(b *board, dev *Device, slot record.Slot, asked string) *attempt.Boot {
	spec := f.spec(b.serial, slot)
	ground := attempt.Ground{Slot: slot.N, Root: bootset.Mounted{
		Dir: spec.Target, BootDir: slot.Boot, Config: dev.Config,
		Upper: filepath.Join(spec.UpperDir, "upper"), Layers: slot.Base.Digests, LayerDir: f.opt.Store.LayerDir,
	}}
	if f.isResumed(b) {
		if boot := b.boots().Resume(ground); boot != nil {
			return boot
		}
	}
	f.endBoot(b)
	b.mu.Lock()
	rev := b.revision
	b.mu.Unlock()
	ground.Models, ground.Guessed = attempt.Models(b.serial, rev, asked)
	boot, err := b.boots().Begin(ground)
	f.notKept(b, err)
	f.begun(b, boot)
	return boot
}

// isResumed says that the boot which begins is the one that the board was in when an
// earlier daemon ended.
func (f *Fleet) isResumed(b *board) bool {
	b.mu.Lock()
	first := b.boot == nil && b.ev.DHCP.IsZero()
	b.mu.Unlock()
	return first && b.boots().IsInterrupted()
}

// notKept tells that something of a board's boots is not on the disk; nil: nothing.
func (f *Fleet) notKept(b *board, err error) {
	if err != nil {
		f.log.Error("what a board's boots came to cannot be written down", "serial", b.serial, "err", err)
	}
}

// maxWarned bounds the warnings of one boot that are told.
const maxWarned = 8

// begun tells of a boot that began.
func (f *Fleet) begun(b *board, boot *attempt.Boot) {
	if boot.Err != nil {
		if !b.hasTold(f.opt.Now(), "blocked: "+boot.Why) {
			f.log.Error("a board is given no boot files", "serial", b.serial, "why", boot.Why)
		}
		f.tell(Event{Serial: b.serial, Kind: "blocked", Boot: boot.ID, Text: boot.Why})
		return
	}
	if boot.LastGood {
		f.log.Warn("a board gets the boot files of its last good boot", "serial", b.serial, "why", boot.Why)
	}
	f.tell(Event{
		Serial: b.serial, Kind: "prepared", Boot: boot.ID, Kernel: strings.Join(boot.Kernels, ","),
		Reports: boot.Reports, LastGood: boot.LastGood, Problem: boot.Why,
	})
	for _, w := range boot.Warnings[:min(len(boot.Warnings), maxWarned)] {
		f.tell(Event{Serial: b.serial, Kind: "warned", Text: w})
		if !b.hasTold(f.opt.Now(), "boot file: "+w) {
			f.log.Warn("a board's boot files may not do", "serial", b.serial, "why", w)
		}
	}
}

// endBoot judges the boot before.
func (f *Fleet) endBoot(b *board) {
	f.lookForReport(b, true) // it may have rebooted right after its report
	failed, err := b.boots().End()
	f.notKept(b, err)
	if failed == nil {
		return
	}
	f.log.Warn("a boot failed", "serial", b.serial, "boot", failed.Boot, "failures", failed.InARow, "last_good_files", failed.LastGood)
	f.tell(Event{Serial: b.serial, Kind: "failed", Boot: failed.Boot, Text: failed.Text()})
}

// lookForReport takes the board's own word that its boot came up. over says that the boot
// is over.
func (f *Fleet) lookForReport(b *board, over bool) {
	seen := attempt.Seen{Over: over}
	b.mu.Lock()
	cur := b.rec.InState(record.SlotCurrent)
	ok := cur != nil && b.rec.Up
	if ok {
		_, ok = b.mounted[cur.N]
		if a := b.activity[cur.N]; a != nil {
			seen.Calls = a.Calls.Load()
		}
		seen.Mounted = b.ev.Mounted
	}
	mac := b.rec.MAC
	b.mu.Unlock()
	if !ok {
		return
	}
	seen.Root = f.spec(b.serial, *cur).Target
	good, err := b.boots().Look(seen)
	f.notKept(b, err)
	if good == nil {
		return
	}
	b.mu.Lock()
	b.ev.Good = good.At
	b.mu.Unlock()
	f.log.Info("a boot is good", "serial", b.serial, "boot", good.Boot, "after", good.After.Round(time.Second))
	f.tell(Event{Time: good.At, Serial: b.serial, MAC: mac, Kind: "good", Boot: good.Boot})
}

// Fetched notes that a board has read a whole file.
func (f *Fleet) Fetched(serial device.Serial, name string) {
	if b := f.known(serial); b != nil {
		f.notKept(b, b.boots().Fetched(name))
	}
}

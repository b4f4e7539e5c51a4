package attempt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/boot/bootset"
)

const (
	release = "6.1.0-9-arm64"
	newer   = "6.1.0-10-arm64"
	kernel  = "boot/firmware/kernel8.img"
)

// lab is one board with a root in a directory.
type lab struct {
	*testing.T
	dir, root string
	opt       *Options
	now       time.Time
	boots     *Boots
	// on is what its next boot stands on, boot its last one.
	on   Ground
	boot *Boot
}

// newLab is a Pi 3 whose root has what it needs, and the unit that reports a boot.
func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{T: t, dir: filepath.Join(dir, "kept"), root: filepath.Join(dir, "root"), now: time.Unix(1_800_000_000, 0)}
	for _, d := range []string{"upper", "layer"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	layer := func(string) string { return filepath.Join(dir, "layer") }
	l.opt = &Options{LayerDir: layer, FallbackAfter: 2, Started: l.now.Add(-time.Hour), Within: 10 * time.Minute, Now: func() time.Time { return l.now }}
	l.on = Ground{Slot: 1, Models: bootset.Models(0)[:1], Root: bootset.Mounted{
		Dir: l.root, Upper: filepath.Join(dir, "upper"), Layers: []string{"layer"}, LayerDir: layer,
	}}
	for _, name := range []string{"bootcode.bin", "start.elf", "fixup.dat", "bcm2710-rpi-3-b.dtb"} {
		l.put("boot/firmware/"+name, name)
	}
	l.put("boot/firmware/config.txt", "arm_64bit=1\n")
	l.put(kernel, kernelOf(release, "first"))
	l.put("lib/modules/"+release+"/modules.dep", "")
	l.put(bootset.BootedUnit, "")
	l.open()
	return l
}

func kernelOf(release, text string) string {
	return strings.Repeat("code ", 1000) + "Linux version %s (x)\x00Linux version " + release + " (debian@x) " + text
}

// open is a process that begins.
func (l *lab) open() {
	l.Helper()
	boots, err := Open(l.opt, l.dir)
	if err != nil {
		l.Fatal(err)
	}
	l.boots = boots
}

func (l *lab) put(name, text string) {
	l.Helper()
	path := filepath.Join(l.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) remove(name string) {
	l.Helper()
	if err := os.RemoveAll(filepath.Join(l.root, name)); err != nil {
		l.Fatal(err)
	}
}

// begins ends the boot before and begins another.
func (l *lab) begins() *Failure {
	l.Helper()
	failed, err := l.boots.End()
	if err != nil {
		l.Fatal(err)
	}
	l.now = l.now.Add(time.Minute)
	if l.boot, err = l.boots.Begin(l.on); err != nil {
		l.Fatal(err)
	}
	return failed
}

// loads begins a boot that reads its kernel.
func (l *lab) loads() *Failure {
	l.Helper()
	failed := l.begins()
	if err := l.boots.Fetched("KERNEL8.img"); err != nil {
		l.Fatal(err)
	}
	return failed
}

// says has the board write that a boot came up.
func (l *lab) says(id string) { l.put("var/lib/rubus/booted", id+"\n") }

// seen is a board that has mounted the root of its last boot, and called once.
func (l *lab) seen() Seen { return Seen{Root: l.root, Mounted: l.now, Calls: 1} }

// isGood has a boot that is good.
func (l *lab) isGood() {
	l.Helper()
	l.loads()
	l.says(l.boot.ID)
	if good, err := l.boots.Look(l.seen()); good == nil || err != nil {
		l.Fatalf("no good boot: %+v, %v", good, err)
	}
}

// updates has the board write another kernel with its modules.
func (l *lab) updates(text string) {
	l.put("lib/modules/"+newer+"/modules.dep", "")
	l.put(kernel, kernelOf(newer, text))
}

// has is the kernel that a boot is given; "" when it is none that was kept.
func (l *lab) has() string {
	l.Helper()
	if l.boot.Files == nil || l.boot.Err != nil {
		return ""
	}
	f, err := l.boot.Files.Open("kernel8.img")
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	text := make([]byte, f.Size())
	if _, err := f.ReadAt(text, 0); err != nil {
		l.Fatal(err)
	}
	return string(text)
}

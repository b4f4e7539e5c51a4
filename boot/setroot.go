package boot

import (
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/bootfs"
	"rubus/boot/bootset"
	"rubus/boot/record"
)

// view is boot files and the modules they go with; it implements bootset.View.
type view struct {
	open    func(name string) (*bootfs.File, error)
	config  func() []byte
	modules []string
}

func (v view) Open(name string) (bootset.File, error) {
	f, err := v.open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (v view) Config() []byte    { return v.config() }
func (v view) Modules() []string { return v.modules }

// rootFiles is the boot directory of a mounted slot; it implements bootset.Source.
type rootFiles struct {
	own     *bootfs.Own
	modules []string
	reports bool
	// dir is the boot directory in the root, upper the board's own writes.
	dir, upper string
	digests    []string // the topmost first
	layerDir   func(string) string
}

func (f *Fleet) rootFiles(b *board, dev *Device, slot record.Slot) (*rootFiles, error) {
	spec := f.spec(b.serial, slot)
	own, err := bootfs.Tree{Root: spec.Target, BootDir: slot.Boot, ConfigLines: dev.Config}.Own()
	if err != nil {
		return nil, err
	}
	dir := slot.Boot
	if dir == "" {
		dir = "boot/firmware"
	}
	digests := slices.Clone(slot.Base.Digests)
	slices.Reverse(digests)
	return &rootFiles{
		own: own, dir: dir, upper: path.Join(spec.UpperDir, "upper"), digests: digests, layerDir: f.opt.Store.LayerDir,
		modules: modulesOf(spec.Target), reports: hasUnit(spec.Target),
	}, nil
}

// Open implements bootset.Source.
func (r *rootFiles) Open(name string) (*bootfs.File, error) { return r.own.Open(name) }

// Names implements bootset.Source.
func (r *rootFiles) Names() ([]string, error) { return r.own.Names() }

// Layer implements bootset.Source.
func (r *rootFiles) Layer(name string, file *bootfs.File) (digest, at string, ok bool) {
	at = path.Join(r.dir, name)
	if bootset.Within(r.upper, at) {
		return "", "", false
	}
	digest, ok = bootset.FindInLayers(file, at, r.digests, r.layerDir)
	return digest, at, ok
}

// liveFiles opens files of a root as they are now.
func (f *Fleet) liveFiles(dev *Device, slot record.Slot) func(string) (*bootfs.File, error) {
	tree := bootfs.Tree{Root: f.spec(dev.Serial, slot).Target, BootDir: slot.Boot}
	return func(name string) (*bootfs.File, error) {
		own, err := tree.Own()
		if err != nil {
			return nil, err
		}
		defer own.Close()
		return own.Open(name)
	}
}

// openIn opens a path in a board's root, to which that root is "/": links in it
// are the board's, and lead nowhere else.
func openIn(root, path string, flags uint64) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return unix.Openat2(dir, path, &unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// maxModuleDirs bounds the kernels of a root that are looked at.
const maxModuleDirs = 256

// modulesOf lists the kernel releases that a root has modules of.
func modulesOf(root string) []string {
	fd, err := openIn(root, "lib/modules", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
	d := os.NewFile(uintptr(fd), "lib/modules")
	defer d.Close()
	entries, _ := d.ReadDir(maxModuleDirs) // what could be read is enough
	var out []string
	for _, e := range entries {
		// A directory that a removed package left has no such list.
		if e.IsDir() && exists(root, path.Join("lib/modules", e.Name(), "modules.dep")) || e.IsDir() && exists(root, path.Join("lib/modules", e.Name(), "kernel")) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out
}

func exists(root, path string) bool {
	fd, err := openIn(root, path, unix.O_PATH)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// The unit that reports a boot, and where it writes the boot's id.
const (
	bootedUnit = "etc/systemd/system/multi-user.target.wants/rubus-booted.service"
	bootedFile = "var/lib/rubus/booted"
)

// hasUnit says whether a root reports its boots.
func hasUnit(root string) bool { return exists(root, bootedUnit) }

// reported is what a root says of its last boot, and when it wrote that.
func reported(root string) (id string, at time.Time) {
	// Looked at before it is opened: opening a fifo or a device acts on it.
	fd, err := openIn(root, bootedFile, unix.O_PATH)
	if err != nil {
		return "", time.Time{}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 64 {
		return "", time.Time{}
	}
	fd2, err := openIn(root, bootedFile, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW)
	if err != nil {
		return "", time.Time{}
	}
	defer unix.Close(fd2)
	var buf [64]byte
	n, err := unix.Read(fd2, buf[:])
	if err != nil {
		return "", time.Time{}
	}
	return strings.TrimSpace(string(buf[:n])), time.Unix(st.Ctim.Unix())
}

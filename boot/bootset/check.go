package bootset

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"rubus/boot/bootfs"
)

// Report is what a Check found.
type Report struct {
	// Models are those that were looked at.
	Models []string
	// Kernels, Releases and Files are of all of them: the kernels' names, what
	// they call themselves, and the names of all files that belong to the set
	// and are there.
	Kernels, Releases, Files []string
	// Broken says why none of the models can boot; empty: one can.
	Broken []string
	// Warnings are what may be wrong, or is for some of several models.
	Warnings []string

	bySerial bool     // on the board's serial something of it depends
	found    *finding // nil: it is of this board alone
}

// OK says that a board can boot, as far as can be told.
func (r Report) OK() bool { return len(r.Broken) == 0 }

// Check looks at the boot files of a root as the firmware of the given models
// would. With several models it is enough that one of them can boot. The cache
// may be nil.
func Check(v View, models []Model, cache *Cache) Report {
	key := ""
	if cache != nil {
		key = keyOf(v, models)
	}
	if key == "" {
		return check(v, models, cache)
	}
	if s := cache.shared(key); s != nil {
		r := s.report.clone()
		r.found = &finding{cache, key, s.report}
		return r
	}
	r := check(v, models, cache)
	// What is wrong may be so for a moment, with a disk that cannot be read: it is
	// looked at again for each board. And the board may have written meanwhile.
	if r.OK() && len(r.Warnings) == 0 && !r.bySerial && keyOf(v, models) == key {
		r.found = &finding{cache, key, r.clone()}
	}
	return r
}

func check(v View, models []Model, cache *Cache) Report {
	var r Report
	if len(models) == 0 {
		r.Broken = []string{"its boot directory has no firmware for any Pi (start.elf, start4.elf or bcm2712-rpi-5-b.dtb)"}
		return r
	}
	good := false
	var broken, warnings []string
	for _, m := range models {
		c := checker{v: v, m: m, cache: cache, bytes: map[string]int64{}}
		c.run()
		r.Models = append(r.Models, m.Name)
		add(&r.Kernels, c.kernel)
		add(&r.Releases, c.release)
		add(&r.Files, c.files...)
		add(&warnings, c.warnings...)
		add(&broken, c.broken...)
		r.bySerial = r.bySerial || c.s.BySerial
		good = good || len(c.broken) == 0
	}
	slices.Sort(r.Files)
	if good {
		r.Warnings = append(warnings, broken...)
	} else {
		r.Broken, r.Warnings = broken, warnings
	}
	return r
}

// add appends what is not there yet and not "".
func add(list *[]string, more ...string) {
	for _, s := range more {
		if s != "" && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
}

// checker looks at a set for one model.
type checker struct {
	v View
	m Model
	s bootfs.Settings

	cache *Cache

	kernel, release string
	files           []string
	bytes           map[string]int64 // of files
	broken          []string
	warnings        []string
}

func (c *checker) fail(format string, a ...any) {
	add(&c.broken, fmt.Sprintf(format, a...))
}

func (c *checker) warn(format string, a ...any) {
	add(&c.warnings, fmt.Sprintf(format, a...))
}

// has says whether a file is there, and if so, that it is one of the set.
func (c *checker) has(name string) bool {
	clean, err := bootfs.Clean(name)
	if err != nil {
		return false
	}
	n, ok := size(c.v, clean)
	if !ok {
		return false
	}
	add(&c.files, clean)
	c.bytes[clean] = n
	return true
}

func (c *checker) run() {
	c.has("config.txt")
	include := c.text
	if c.m.Board.Processor >= bcm2712 {
		include = nil // the EEPROM does not follow them
	}
	c.s = bootfs.ParseConfig(c.v.Config(), include, c.m.Board)
	for _, w := range c.s.Warnings {
		c.warn("%s", w)
	}
	for _, n := range c.s.Includes {
		c.has(n)
	}
	if c.s.BootRAMDisk {
		c.has("boot.sig")
		if !c.has("boot.img") {
			c.fail("config.txt asks for boot.img (boot_ramdisk=1), which is not there")
		}
		return
	}
	c.firmware()
	prefix := c.chooseKernel()
	c.has(bootfs.Prefixed(prefix, c.s.CmdlineFile))
	if c.kernel != "" {
		c.modules()
		c.initramfs(prefix)
		c.deviceTree(prefix)
		c.overlays(prefix)
	}
	c.sizes()
}

// text reads a file that config.txt includes.
func (c *checker) text(name string) ([]byte, error) {
	clean, err := bootfs.Clean(name)
	if err != nil {
		return nil, err
	}
	f, err := c.v.Open(clean)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, min(f.Size(), bootfs.MaxConfig+1)))
}

func (c *checker) firmware() {
	if c.m.Board.Processor >= bcm2712 {
		return
	}
	if c.m.Board.Processor < bcm2711 && !c.has("bootcode.bin") {
		c.warn("bootcode.bin is not there: a %s needs it on an SD card", c.m.Name)
	}
	if c.s.StartFile == "" || !c.has(c.s.StartFile) {
		c.fail("%s, the firmware of a %s, is not there", orName(c.s.StartFile, "start_file"), c.m.Name)
	}
	if c.s.FixupFile == "" || !c.has(c.s.FixupFile) {
		c.warn("%s is not there: the board has only 128 MB of its memory", orName(c.s.FixupFile, "fixup_file"))
	}
	if c.s.Armstub != "" && !c.has(c.s.Armstub) {
		c.warn("armstub %s, which config.txt names, is not there", c.s.Armstub)
	}
}

func orName(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}

// chooseKernel finds the kernel as firmware does, and gives the prefix that
// holds for the files of the operating system: os_prefix, unless kernel or device
// tree are missing there (boot.adoc, "os_prefix").
func (c *checker) chooseKernel() (prefix string) {
	names := c.s.Kernels(c.m.Board)
	if p := c.s.OSPrefix; p != "" {
		trees := c.s.DeviceTrees(c.m.Board)
		if k := c.first(p, names); k != "" && (len(trees) == 0 || c.first(p, trees) != "") {
			c.kernel = k
			return p
		}
	}
	if c.kernel = c.first("", names); c.kernel == "" {
		c.fail("the kernel of a %s, %s, is not there", c.m.Name, strings.Join(names, " or "))
	}
	return ""
}

// first is the full name of the first of some names that is there.
func (c *checker) first(prefix string, names []string) string {
	for _, n := range names {
		if full := bootfs.Prefixed(prefix, n); c.has(full) {
			return full
		}
	}
	return ""
}

func (c *checker) modules() {
	f, err := c.v.Open(c.kernel)
	if err != nil {
		return
	}
	defer f.Close()
	if f.Size() == 0 {
		c.fail("%s is empty", c.kernel)
		return
	}
	c.release, err = c.cache.kernel(f)
	have := c.v.Modules()
	switch {
	case errors.Is(err, ErrCutOff):
		c.fail("the kernel %s is cut off", c.kernel)
	case err != nil:
		c.warn("%s cannot be looked into: %v", c.kernel, err)
	case c.release == "":
		if len(have) > 0 {
			c.warn("%s does not say its release: whether its modules are there is not known", c.kernel)
		}
	case len(have) == 0:
		c.warn("the root has no kernel modules at all")
	case !slices.Contains(have, c.release):
		c.fail("the kernel %s is of release %s, and the root has no modules of it in /lib/modules (there: %s)", c.kernel, c.release, strings.Join(firstFew(have), ", "))
	}
}

// firstFew bounds what a message lists.
func firstFew(s []string) []string {
	if len(s) > 4 {
		return append(slices.Clone(s[:4]), "...")
	}
	return s
}

func (c *checker) initramfs(prefix string) {
	base := strings.TrimPrefix(c.kernel, prefix)
	for _, n := range c.s.Initramfses(base) {
		full := bootfs.Prefixed(prefix, n)
		if !c.has(full) {
			if len(c.s.Initramfs) > 0 {
				c.fail("the initramfs %s, which config.txt names, is not there", full)
			}
			continue
		}
		if c.release == "" {
			continue
		}
		f, err := c.v.Open(full)
		if err != nil {
			continue
		}
		releases, err := c.cache.initramfs(f)
		f.Close()
		switch {
		case errors.Is(err, ErrCutOff):
			c.fail("the initramfs %s is cut off", full)
			continue
		case err != nil:
			c.warn("%s cannot be looked into: %v", full, err)
		}
		if len(releases) == 0 {
			// By its name: Debian's is initrd.img-RELEASE.
			if r, ok := strings.CutPrefix(path.Base(full), "initrd.img-"); ok {
				releases = []string{r}
			}
		}
		if len(releases) > 0 && !slices.Contains(releases, c.release) {
			c.fail("the initramfs %s is of kernel %s, and the kernel %s is of release %s", full, strings.Join(firstFew(releases), ", "), c.kernel, c.release)
		}
	}
}

func (c *checker) deviceTree(prefix string) {
	names := c.s.DeviceTrees(c.m.Board)
	if len(names) == 0 || c.first(prefix, names) != "" {
		return
	}
	c.warn("the device tree of a %s, %s, is not there", c.m.Name, strings.Join(names, " or "))
}

func (c *checker) overlays(prefix string) {
	dir := c.s.OverlayPrefix
	if prefix != "" && c.has(prefix+dir+"README") {
		dir = prefix + dir
	}
	c.has(dir + "overlay_map.dtb")
	names := c.s.Overlays
	if c.s.UpstreamKernel {
		names = append([]string{"upstream"}, names...)
	}
	for _, n := range names {
		if !c.has(dir+n+".dtbo") && n != "upstream" {
			c.warn("the overlay %s, which config.txt names, is not there", dir+n+".dtbo")
		}
	}
}

// sizes holds all files against what the model's firmware can read.
func (c *checker) sizes() {
	limit, certain := c.m.maxFile()
	if c.m.NewBootloader {
		return
	}
	for _, name := range c.files {
		n := c.bytes[name]
		switch {
		case n > limit && certain:
			c.fail("%s has %s, and the firmware of a %s reads at most %s", name, megabytes(n), c.m.Name, megabytes(limit))
		case n > limit:
			c.warn("%s has %s: bootloaders from before 2025-09-23 read at most %s", name, megabytes(n), megabytes(limit))
		case n > limit/100*95:
			c.warn("%s has %s, close to what the firmware of a %s can read, %s", name, megabytes(n), c.m.Name, megabytes(limit))
		}
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

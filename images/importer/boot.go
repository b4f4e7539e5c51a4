package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/importer/bounds"
	"rubus/images/treesum"
)

// bootPatterns match what the Pi's firmware asks for by TFTP.
var bootPatterns = []string{"bootcode.bin", "start*.elf", "config.txt", "kernel*.img", "vmlinuz*"}

// isBootFile says whether a board could boot with a file of this name.
func isBootFile(name string) bool {
	for _, p := range bootPatterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// firmwareFile says whether the file is the firmware's, not only a kernel: a
// plain Debian has kernels in /boot and none of that.
func firmwareFile(name string) bool { return isBootFile(name) && !strings.HasPrefix(name, "vmlinuz") }

func checkOptions(name string, o Options) error {
	if r, err := imageref.Parse(name); err != nil {
		return err
	} else if r.Version != 0 {
		return fmt.Errorf("image %q: a new version gets its number from the store; say %q", name, r.Name)
	}
	if o.Boot != "" && o.Boot != images.BootFirmware && o.Boot != images.BootPlain {
		return fmt.Errorf("boot directory %q is neither %q nor %q", o.Boot, images.BootFirmware, images.BootPlain)
	}
	if b, err := hex.DecodeString(o.SHA256); err != nil || len(b) != 0 && len(b) != sha256.Size {
		return fmt.Errorf("a SHA-256 has 64 hex digits, %q has not", bounds.Short(o.SHA256))
	}
	return nil
}

// chooseBoot finds where the boot files lie.
func (s *stack) chooseBoot() (string, error) {
	if s.o.Boot != "" {
		return s.o.Boot, nil
	}
	view := images.Merged(s.dirs())
	names := make(map[string][]string)
	for _, dir := range []string{images.BootFirmware, images.BootPlain} {
		// What isn't there, or is a link elsewhere, has no names to add.
		list, _ := fs.ReadDir(view, dir)
		for _, f := range list {
			names[dir] = append(names[dir], f.Name())
		}
	}
	has := func(dir string, is func(string) bool) bool {
		for _, n := range names[dir] {
			if is(n) {
				return true
			}
		}
		return false
	}
	switch {
	case has(images.BootFirmware, isBootFile):
		return images.BootFirmware, nil
	case has(images.BootPlain, isBootFile):
		if !has(images.BootPlain, firmwareFile) {
			s.notes.Add("a kernel but none of the Pi's firmware (start4.elf, config.txt) is in /boot: no board can boot it yet", "")
		}
		return images.BootPlain, nil
	}
	s.notes.Add("no boot files (start4.elf, config.txt, kernel8.img) are in /boot/firmware or /boot: no board can boot it yet", "")
	return images.BootPlain, nil
}

// inspect notes what will surprise whoever boots this tree.
func (s *stack) inspect() {
	if len(s.base) > 0 || len(s.built) == 0 || s.built[0].Pending == nil {
		return
	}
	notes := s.notes
	top := make(map[string]bool)
	var dirs []string
	for _, e := range s.built[0].Entries {
		switch {
		case e.Path == "":
			if e.Mode&0o005 != 0o005 {
				notes.Add(fmt.Sprintf("the root directory has mode %04o: on a board only root will be able to use it", e.Mode), "")
			}
		case !strings.Contains(e.Path, "/"):
			top[e.Path] = true
			if e.Type == treesum.Dir {
				dirs = append(dirs, e.Path)
			}
		}
	}
	if !top["etc"] && !top["usr"] && !top["bin"] {
		what := "there is no etc, usr or bin: this is no root file system"
		if len(top) == 1 && len(dirs) == 1 {
			what = fmt.Sprintf("there is no etc, usr or bin, but a directory %q: does the root lie below it?", dirs[0])
		}
		notes.Add(what, "")
	}
}

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// generation is what a generation of boards looks for in a boot directory.
type generation struct {
	name string
	need []string // each a name, or a pattern of which one must match
}

func generations() []generation {
	return []generation{
		{"Pi 3", []string{"bootcode.bin", "start*.elf", "bcm2710-rpi-3*.dtb|bcm2837-rpi-3*.dtb"}},
		{"Pi 4", []string{"start4*.elf", "bcm2711-rpi-*.dtb"}},
		{"Pi 5", []string{"bcm2712*-rpi-5*.dtb"}},
	}
}

// Image says which generations an image has boot files for.
func Image(name string, boot fs.FS) Finding {
	f := Finding{Check: "images", Level: Failure, Why: "no board can boot it", Do: "import a root whose boot directory is filled"}
	if _, err := fs.Stat(boot, "config.txt"); err != nil {
		f.What = fmt.Sprintf("image %s has no config.txt: %v", name, err)
		return f
	}
	kernels, err := match(boot, "kernel*.img|vmlinuz*|Image*")
	if err != nil || !kernels {
		f.What = fmt.Sprintf("image %s has no kernel in its boot directory", name)
		return f
	}
	var can, cannot []string
	for _, g := range generations() {
		missing, err := lacks(boot, g.need)
		switch {
		case err != nil:
			f.What = fmt.Sprintf("image %s: %v", name, err)
			return f
		case missing == "":
			can = append(can, g.name)
		default:
			cannot = append(cannot, fmt.Sprintf("%s (no %s)", g.name, missing))
		}
	}
	if len(can) == 0 {
		f.What = fmt.Sprintf("image %s has boot files for no board: %s", name, strings.Join(cannot, ", "))
		return f
	}
	f = Finding{Check: "images", Level: OK, What: fmt.Sprintf("image %s has boot files for %s", name, strings.Join(can, ", "))}
	if len(cannot) > 0 {
		f.What += "; not for " + strings.Join(cannot, ", ")
	}
	return f
}

// lacks gives the first of some needs that is not met.
func lacks(boot fs.FS, need []string) (string, error) {
	for _, n := range need {
		if ok, err := match(boot, n); err != nil || !ok {
			return strings.ReplaceAll(n, "|", " or "), err
		}
	}
	return "", nil
}

// match says whether one of some patterns matches a name.
func match(boot fs.FS, patterns string) (bool, error) {
	for p := range strings.SplitSeq(patterns, "|") {
		names, err := fs.Glob(boot, p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if len(names) > 0 {
			return true, nil
		}
	}
	return false, nil
}

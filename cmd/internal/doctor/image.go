package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"rubus/boot/bootset"
)

// Image says which generations of boards an image can boot, and what will be in
// their way. Root is its files, bootDir its boot directory.
func Image(name string, root fs.FS, bootDir string) []Finding {
	v := imageView{root, path.Clean(bootDir)}
	var can, cannot, warnings []string
	for _, m := range bootset.Models(1) {
		if len(bootset.Supported(v, []bootset.Model{m})) == 0 {
			cannot = append(cannot, m.Name+" (no firmware or device tree)")
			continue
		}
		r := bootset.Check(v, []bootset.Model{m}, nil)
		if !r.OK() {
			cannot = append(cannot, fmt.Sprintf("%s (%s)", m.Name, strings.Join(r.Broken, "; ")))
			continue
		}
		can = append(can, m.Name)
		for _, w := range r.Warnings {
			if !slices.Contains(warnings, w) {
				warnings = append(warnings, w)
			}
		}
	}
	if len(can) == 0 {
		return []Finding{{
			Check: "images", Level: Failure, What: fmt.Sprintf("image %s is for no board: %s", name, strings.Join(cannot, ", ")),
			Why: "no board can boot it", Do: "import a root whose boot directory is filled",
		}}
	}
	f := Finding{Check: "images", Level: OK, What: fmt.Sprintf("image %s can boot %s", name, strings.Join(can, ", "))}
	if len(cannot) > 0 {
		f.What += "; not " + strings.Join(cannot, ", ")
	}
	out := []Finding{f}
	for _, w := range warnings {
		out = append(out, Finding{
			Check: "images", Level: Warning, What: fmt.Sprintf("image %s: %s", name, w), Why: "some boards may not boot it, or not start their system",
			Do: "mend the image, and import it again",
		})
	}
	for _, line := range cardMounts(root) {
		out = append(out, Finding{
			Check: "images", Level: Warning, What: fmt.Sprintf("image %s: /etc/fstab has %q", name, line),
			Why: "a board without an SD card waits for it when it boots", Do: "take the line out and import the image again",
		})
	}
	return out
}

// maxFstab bounds what is read of a file of an image, in bytes.
const maxFstab = 1 << 20

// cardMounts are the lines of fstab that want a disk of the board's own.
func cardMounts(root fs.FS) []string {
	f, err := root.Open("etc/fstab")
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFstab))
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(line)
		if len(w) < 2 || strings.HasPrefix(w[0], "#") || slices.Contains(strings.Split(strings.Join(w[min(3, len(w)):], ","), ","), "nofail") {
			continue
		}
		for _, p := range []string{"PARTUUID=", "UUID=", "LABEL=", "PARTLABEL=", "/dev/mmcblk", "/dev/sd", "/dev/disk/"} {
			if strings.HasPrefix(w[0], p) {
				out = append(out, strings.Join(w, " "))
				break
			}
		}
	}
	return out
}

// imageView is an image's files as bootset looks at them.
type imageView struct {
	root fs.FS
	boot string
}

// Open implements bootset.View.
func (v imageView) Open(name string) (bootset.File, error) {
	at := v.boot
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		entries, err := fs.ReadDir(v.root, at)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return strings.EqualFold(e.Name(), part) })
		if i < 0 {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		at = path.Join(at, entries[i].Name())
	}
	f, err := v.root.Open(at)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if r, ok := f.(io.ReaderAt); ok {
		return imageFile{r, f, info.Size()}, nil
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return imageFile{bytes.NewReader(text), f, int64(len(text))}, nil
}

// Config implements bootset.View.
func (v imageView) Config() []byte {
	f, err := v.Open("config.txt")
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, min(f.Size(), maxFstab))
	n, _ := f.ReadAt(b, 0)
	return b[:n]
}

// Modules implements bootset.View.
func (v imageView) Modules() []string {
	var out []string
	for _, dir := range []string{"usr/lib/modules", "lib/modules"} {
		entries, err := fs.ReadDir(v.root, dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(out, e.Name()) {
				out = append(out, e.Name())
			}
		}
	}
	return out
}

type imageFile struct {
	io.ReaderAt
	io.Closer
	size int64
}

// Size implements bootset.File.
func (f imageFile) Size() int64 { return f.size }

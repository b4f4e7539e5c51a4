package diskimage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/disk"
	"rubus/images/ext4"
	"rubus/images/fat"
	"rubus/images/importer/bounds"
)

// volume is one file system of a disk image.
type volume struct {
	disk.Partition
	kind string // in words
	ext4 *ext4.FS
	fat  *fat.FS
	err  error // why it can't be read
}

func (v volume) String() string {
	s := v.kind
	label := v.Name
	switch {
	case v.ext4 != nil:
		label = v.ext4.Label()
	case v.fat != nil:
		label = v.fat.Label()
	}
	if v.Number > 0 {
		s = fmt.Sprintf("partition %d (%s", v.Number, v.kind)
		if label != "" {
			s += fmt.Sprintf(", %q", bounds.Short(label))
		}
		s += ")"
	}
	return s
}

// openVolumes opens every file system of a disk image, with or without a
// partition table.
func openVolumes(image io.ReaderAt, size int64) ([]volume, error) {
	table, err := disk.Read(image, size)
	if errors.Is(err, disk.ErrNoTable) {
		table.Partitions, err = []disk.Partition{{Size: size}}, nil
	}
	if err != nil {
		return nil, err
	}
	var out []volume
	for _, p := range table.Partitions {
		v := volume{Partition: p}
		if p.Start >= size {
			v.kind, v.err = "behind the end", fmt.Errorf("partition %d begins at byte %d, and the image has %d: it is cut off", p.Number, p.Start, size)
			out = append(out, v)
			continue
		}
		part := io.NewSectionReader(image, p.Start, min(p.Size, size-p.Start))
		head := make([]byte, headSize)
		if _, err := part.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		switch {
		case ext4.Is(head):
			v.kind = "ext4"
			v.ext4, v.err = ext4.Open(part, part.Size())
		case fat.Is(head):
			v.kind = "FAT"
			v.fat, v.err = fat.Open(part, part.Size())
		default:
			v.kind = foreign(part, head)
		}
		out = append(out, v)
	}
	return out, nil
}

// headSize is how much of a file system tells its kind, in bytes.
const headSize = 4096

// foreign names what isn't read.
func foreign(r io.ReaderAt, head []byte) string {
	for _, m := range []struct {
		at          int
		magic, kind string
	}{
		{0, "XFSB", "xfs"},
		{0, "hsqs", "squashfs"},
		{0, "LUKS", "encrypted"},
		{512, "LABELONE", "LVM"},
		{1024, "\x10\x20\xf5\xf2", "f2fs"},
		{4086, "SWAPSPACE2", "swap"},
	} {
		if bytes.HasPrefix(head[m.at:], []byte(m.magic)) {
			return m.kind
		}
	}
	b := make([]byte, 8)
	if _, err := r.ReadAt(b, 0x10040); err == nil && string(b) == "_BHRfS_M" {
		return "btrfs"
	}
	return "unknown"
}

// chooseRoot finds the file system of the root: the one that looks like it, or
// the one of the partition asked for.
func chooseRoot(volumes []volume, partition int) (*volume, error) {
	var roots []*volume
	var all []string
	for i := range volumes {
		v := &volumes[i]
		all = append(all, v.String())
		switch {
		case partition != 0 && v.Number != partition:
		case partition != 0 && v.ext4 == nil && v.err == nil:
			return nil, fmt.Errorf("%v can't be the root: rubus reads ext4", v)
		case v.err != nil && (v.kind != "FAT" || partition != 0):
			return nil, fmt.Errorf("%v: %w", v, v.err)
		case v.ext4 != nil:
			is, err := isRoot(v.ext4)
			if err != nil {
				return nil, fmt.Errorf("%v: %w", v, err)
			}
			if is || partition != 0 {
				roots = append(roots, v)
			}
		}
	}
	switch {
	case len(roots) == 1:
		return roots[0], nil
	case partition != 0:
		return nil, fmt.Errorf("there is no partition %d, only %s", partition, strings.Join(all, ", "))
	case len(roots) == 0:
		return nil, fmt.Errorf("no root file system is in it that rubus could read (ext4), only %s", strings.Join(all, ", "))
	}
	var names []string
	for _, r := range roots {
		names = append(names, r.String())
	}
	return nil, &ManyRootsError{names}
}

// ManyRootsError says that Options.Partition has to choose.
type ManyRootsError struct{ Volumes []string }

// Error implements error.
func (e *ManyRootsError) Error() string {
	return "it has several root file systems: " + strings.Join(e.Volumes, ", ")
}

// Hint is what to do about it.
func (e *ManyRootsError) Hint() string { return `say which with "--partition NUMBER"` }

// isRoot says whether a file system has what a root has.
func isRoot(fs *ext4.FS) (bool, error) {
	for _, name := range []string{"etc", "usr"} {
		i, err := lookup(fs, name)
		if err != nil || i != nil && i.Type() == unix.S_IFDIR {
			return err == nil, err
		}
	}
	return false, nil
}

// lookup finds a path, following no links; nil: it isn't there.
func lookup(fs *ext4.FS, p string) (*ext4.Inode, error) {
	i, err := fs.Inode(ext4.Root)
	for part := range strings.SplitSeq(p, "/") {
		if err != nil || i.Type() != unix.S_IFDIR {
			return nil, err
		}
		names, err := fs.ReadDir(i)
		if err != nil {
			return nil, err
		}
		n := slices.IndexFunc(names, func(d ext4.Dirent) bool { return d.Name == part })
		if n < 0 {
			return nil, nil
		}
		if i, err = fs.Inode(names[n].Inode); err != nil {
			return nil, err
		}
	}
	return i, err
}

// mountLine is one of /etc/fstab.
type mountLine struct{ spec, dir string }

// maxFstab bounds the file in bytes.
const maxFstab = 64 << 10

// bootLines reads what a root's /etc/fstab mounts on /boot/firmware or /boot.
func bootLines(root *ext4.FS) ([]mountLine, error) {
	i, err := lookup(root, "etc/fstab")
	if err != nil || i == nil || i.Type() != unix.S_IFREG || i.Size > maxFstab {
		return nil, err
	}
	c, err := root.Content(i)
	if err != nil {
		return nil, err
	}
	b := make([]byte, i.Size)
	if _, err := c.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var out []mountLine
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if dir := strings.TrimPrefix(path.Clean(f[1]), "/"); dir == images.BootFirmware || dir == images.BootPlain {
			out = append(out, mountLine{f[0], dir})
		}
	}
	return out, nil
}

// chooseBoot finds the boot partition and where the root mounts it; nil: there is none.
func chooseBootVolume(volumes []volume, root *ext4.FS) (boot *volume, dir string, err error) {
	lines, err := bootLines(root)
	if err != nil {
		return nil, "", err
	}
	var first *volume
	for i := range volumes {
		v := &volumes[i]
		if v.kind != "FAT" {
			for _, l := range lines {
				if v.ext4 != root && v.is(l.spec) {
					return nil, "", fmt.Errorf("/etc/fstab mounts %v on /%s, and that is no FAT file system", v, l.dir)
				}
			}
			continue
		}
		for _, l := range lines {
			if v.is(l.spec) {
				return v, l.dir, v.err
			}
		}
		if first == nil || first.err != nil && v.err == nil {
			first = v
		}
	}
	if first == nil {
		return nil, "", nil
	}
	if len(lines) > 0 {
		return first, lines[0].dir, first.err
	}
	dir = images.BootPlain
	if i, err := lookup(root, images.BootFirmware); err != nil {
		return nil, "", err
	} else if i != nil && i.Type() == unix.S_IFDIR {
		dir = images.BootFirmware
	}
	return first, dir, first.err
}

// is says whether the first field of a line of /etc/fstab means this volume.
func (v *volume) is(spec string) bool {
	key, value, ok := strings.Cut(spec, "=")
	value = strings.Trim(value, `"`)
	switch {
	case !ok:
		return v.Number > 0 && (strings.HasSuffix(spec, fmt.Sprintf("p%d", v.Number)) || strings.HasSuffix(spec, fmt.Sprintf("sda%d", v.Number)))
	case key == "PARTUUID":
		return strings.EqualFold(value, v.UUID)
	case key == "PARTLABEL":
		return value == v.Name
	case key == "LABEL" && v.fat != nil:
		return value == v.fat.Label()
	case key == "UUID" && v.fat != nil:
		return strings.EqualFold(value, v.fat.ID())
	}
	return false
}

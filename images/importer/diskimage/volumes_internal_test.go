package diskimage

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/images/disk"
	"rubus/images/ext4"
	"rubus/images/fat"
	"rubus/images/importer/imagetest"
)

// part is a small file system by itself: ext4 with these files in its root, "" for FAT.
func part(t *testing.T, number int, uuid string, files map[string]string) volume {
	t.Helper()
	img := filepath.Join(t.TempDir(), "part")
	must(t, os.WriteFile(img, nil, 0o600))
	must(t, os.Truncate(img, 2<<20))
	v := volume{Partition: disk.Partition{Number: number, UUID: uuid, Name: "part"}}
	if files == nil {
		imagetest.Tool(t, "", "mkfs.vfat", "-n", "BOOTFS", "-i", "1234ABCD", img)
	} else {
		dir := t.TempDir()
		for name, content := range files {
			must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
		}
		imagetest.Tool(t, "", "mkfs.ext4", "-q", "-F", "-L", "label", "-d", dir, img)
	}
	f, err := os.Open(img)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	if files == nil {
		v.kind = "FAT"
		v.fat, v.err = fat.Open(f, 2<<20)
	} else {
		v.kind = "ext4"
		v.ext4, v.err = ext4.Open(f, 2<<20)
	}
	must(t, v.err)
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestChooseRoot(t *testing.T) {
	boot := part(t, 1, "", nil)
	root := part(t, 2, "", map[string]string{"etc/fstab": ""})
	data := part(t, 3, "", map[string]string{"home/x": ""})
	second := part(t, 4, "", map[string]string{"usr/x": ""})
	broken := volume{Partition: disk.Partition{Number: 5}, kind: "ext4", err: io.ErrUnexpectedEOF}
	other := volume{Partition: disk.Partition{Number: 6}, kind: "xfs"}
	noBoot := volume{Partition: disk.Partition{Number: 7}, kind: "FAT", err: io.ErrUnexpectedEOF}
	for name, c := range map[string]struct {
		volumes   []volume
		partition int
		want      int
		err       string
	}{
		"boot and root":               {[]volume{boot, root}, 0, 2, ""},
		"beside data and another":     {[]volume{data, other, root}, 0, 2, ""},
		"two":                         {[]volume{root, second}, 0, 0, `it has several root file systems: partition 2 (ext4, "label"), partition 4 (ext4, "label")`},
		"one of two":                  {[]volume{root, second}, 4, 4, ""},
		"what does not look like one": {[]volume{root, data}, 3, 3, ""},
		"a number there is none of":   {[]volume{boot, root}, 9, 0, `there is no partition 9, only partition 1 (FAT, "BOOTFS"), partition 2 (ext4, "label")`},
		"the boot partition":          {[]volume{boot, root}, 1, 0, `partition 1 (FAT, "BOOTFS") can't be the root`},
		"none":                        {[]volume{boot, data, other}, 0, 0, "no root file system is in it"},
		"a broken one beside":         {[]volume{root, broken}, 0, 0, "partition 5 (ext4)"},
		"a broken one not asked for":  {[]volume{root, broken}, 2, 2, ""},
		"a broken boot partition":     {[]volume{noBoot, root}, 0, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := chooseRoot(c.volumes, c.partition)
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				var many *ManyRootsError
				if errors.As(err, &many) != (name == "two") {
					t.Errorf("%T", err)
				}
			case err != nil || v.Number != c.want:
				t.Errorf("%v, %v, want partition %d", v, err, c.want)
			}
		})
	}
}

func TestChooseBoot(t *testing.T) {
	boot, second := part(t, 1, "5e3da3da-01", nil), part(t, 3, "5e3da3da-03", nil)
	broken := volume{Partition: disk.Partition{Number: 4, UUID: "5e3da3da-04"}, kind: "FAT", err: io.ErrUnexpectedEOF}
	for name, c := range map[string]struct {
		files map[string]string
		more  []volume // before the usual two
		want  int
		dir   string
		err   string
	}{
		"by PARTUUID":            {map[string]string{"etc/fstab": "PARTUUID=5E3DA3DA-03 /boot/firmware vfat\n"}, nil, 3, "boot/firmware", ""},
		"by LABEL":               {map[string]string{"etc/fstab": "LABEL=BOOTFS /boot vfat\n"}, nil, 1, "boot", ""},
		"by UUID":                {map[string]string{"etc/fstab": "UUID=1234-abcd /boot/ vfat\n"}, nil, 1, "boot", ""},
		"by PARTLABEL":           {map[string]string{"etc/fstab": "PARTLABEL=\"part\" /boot vfat\n"}, nil, 1, "boot", ""},
		"by device":              {map[string]string{"etc/fstab": "/dev/mmcblk0p3 /boot/firmware vfat\n"}, nil, 3, "boot/firmware", ""},
		"by no name of them":     {map[string]string{"etc/fstab": "LABEL=other /boot/firmware vfat\n"}, nil, 1, "boot/firmware", ""},
		"a comment":              {map[string]string{"etc/fstab": "#LABEL=BOOTFS /boot vfat\n", "boot/firmware/x": ""}, nil, 1, "boot/firmware", ""},
		"no fstab, old":          {map[string]string{"etc/x": ""}, nil, 1, "boot", ""},
		"no fstab, new":          {map[string]string{"boot/firmware/x": ""}, nil, 1, "boot/firmware", ""},
		"the one that is broken": {map[string]string{"etc/fstab": "PARTUUID=5e3da3da-04 /boot vfat\n"}, []volume{broken}, 0, "", "unexpected EOF"},
		"another, not a broken":  {map[string]string{"etc/x": ""}, []volume{broken}, 1, "boot", ""},
		"what is no FAT": {
			map[string]string{"etc/fstab": "PARTUUID=x-6 /boot vfat\n"},
			[]volume{{Partition: disk.Partition{Number: 6, UUID: "x-6"}, kind: "xfs"}},
			0, "", "that is no FAT file system",
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := part(t, 2, "5e3da3da-02", c.files)
			v, dir, err := chooseBootVolume(append(c.more, boot, root, second), root.ext4)
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
			case err != nil || v == nil || v.Number != c.want || dir != c.dir:
				t.Errorf("%v at %q, %v; want partition %d at %q", v, dir, err, c.want, c.dir)
			}
		})
	}
	root := part(t, 2, "", map[string]string{"etc/x": ""})
	if v, dir, err := chooseBootVolume([]volume{root}, root.ext4); v != nil || dir != "" || err != nil {
		t.Errorf("without any: %v at %q, %v", v, dir, err)
	}
}

// Names come in the order of what they need of the image, and those that need the same in the order they came.
func TestQueue(t *testing.T) {
	var q queue
	for _, n := range []name{{name: "d", need: late}, {name: "b", need: 5}, {name: "a", need: 1}, {name: "c", need: 5}} {
		q.push(n)
	}
	got := q.pop().name
	q.push(name{name: "b2", need: 5})
	for len(q.names) > 0 {
		got += " " + q.pop().name
	}
	if want := "a b c b2 d"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestForeignFileSystems(t *testing.T) {
	for _, c := range []struct {
		at          int
		magic, want string
	}{
		{0, "XFSB", "xfs"},
		{0, "hsqs", "squashfs"},
		{0, "LUKS", "encrypted"},
		{512, "LABELONE", "LVM"},
		{1024, "\x10\x20\xf5\xf2", "f2fs"},
		{4086, "SWAPSPACE2", "swap"},
		{0x10040, "_BHRfS_M", "btrfs"},
		{0, "nothing", "unknown"},
	} {
		b := make([]byte, 1<<17)
		copy(b[c.at:], c.magic)
		if got := foreign(strings.NewReader(string(b)), b[:headSize]); got != c.want {
			t.Errorf("%q at %d is %s, want %s", c.magic, c.at, got, c.want)
		}
	}
}

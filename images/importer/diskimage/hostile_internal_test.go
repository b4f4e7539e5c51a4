package diskimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/images/importer/imagetest"
	"rubus/images/importer/layer"
)

// Images that somebody made to lead the import astray are refused with words, whether all of them is there or
// its end is not known yet.
func TestHostileImages(t *testing.T) {
	f := imagetest.Small()
	f.Root = imagetest.Families()["bullseye"].Root // without checksums: a change is not noticed by them
	root, boot := imagetest.Parts(t, f)
	pristine := imagetest.Make(t, f, root, boot)
	rootAt := f.Start*512 + f.BootMB<<20
	debugfs := func(command string) func(t *testing.T, img string) {
		return func(t *testing.T, img string) {
			imagetest.Tool(t, "", "debugfs", "-w", "-R", command, fmt.Sprintf("%s?offset=%d", img, rootAt))
		}
	}
	entry := func(at int, value uint32) func(t *testing.T, img string) { // of the second partition
		return func(t *testing.T, img string) {
			w, err := os.OpenFile(img, os.O_WRONLY, 0)
			must(t, err)
			defer w.Close()
			_, err = w.WriteAt(binary.LittleEndian.AppendUint32(nil, value), int64(446+16+at))
			must(t, err)
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, img string)
		want   string
	}{
		"a directory twice":         {debugfs("ln /usr/bin /etc/again"), "the directory has two names"},
		"a directory in itself":     {debugfs("ln /usr /usr/bin/loop"), "the directory has two names"},
		"an extent behind the end":  {debugfs("sif /usr/bin/sudo block[5] 0x7fffffff"), "holds blocks 2147483647+"},
		"an extent tree too deep":   {debugfs("sif /usr/bin/sudo block[1] 0x00090004"), "damaged extent tree"},
		"a directory's blocks":      {debugfs("sif /etc block[5] 0x7fffffff"), "holds blocks 2147483647+"},
		"a size past all":           {debugfs("sif /usr/bin/sudo size 0xfffffffffffffff"), "has a size of"},
		"a name that climbs":        {rename("sudoedit", "../../xy"), "damaged"},
		"a name with a slash":       {rename("sudoedit", "ab/../xy"), "damaged"},
		"a name with a NUL":         {rename("sudoedit", "ab\x00defgh"), "damaged"},
		"the root behind the end":   {entry(8, 1<<30), "it is cut off"},
		"the root at half of it":    {entry(12, 2048), "is it cut off?"},
		"the root is the boot part": {entry(8, uint32(f.Start)), "no root file system"},
	} {
		t.Run(name, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "pi.img")
			imagetest.Tool(t, "", "cp", "--sparse=always", pristine, img)
			c.change(t, img)
			in, err := os.Open(img)
			must(t, err)
			defer in.Close()
			st, err := in.Stat()
			must(t, err)
			for how, image := range map[string]Image{
				"there": {ReaderAt: in, Size: st.Size()},
				"comes": {ReaderAt: in, Size: 256 << 30, All: func() (int64, error) { return st.Size(), nil }},
			} {
				_, err := imagetest.Build(t, imagetest.Options{}, func(b *layer.Builder) error { return Copy(b, image, 0) })
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, want %q", how, err, c.want)
				}
			}
		})
	}
}

// rename changes a name of the same length in an image.
func rename(from, to string) func(t *testing.T, img string) {
	return func(t *testing.T, img string) {
		b, err := os.ReadFile(img)
		must(t, err)
		if !bytes.Contains(b, []byte(from)) {
			t.Fatalf("there is no %q", from)
		}
		w, err := os.OpenFile(img, os.O_WRONLY, 0)
		must(t, err)
		defer w.Close()
		for at := 0; ; at += len(from) {
			n := bytes.Index(b[at:], []byte(from))
			if n < 0 {
				return
			}
			at += n
			_, err = w.WriteAt([]byte(to), int64(at))
			must(t, err)
		}
	}
}

package bootset

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const release = "6.12.25+rpt-rpi-v8"

// tree is a View made of texts; a name that begins with "#" is a size.
type tree struct {
	files   map[string]string
	sizes   map[string]int64
	modules []string
}

type memory struct {
	io.ReaderAt
	size int64
}

func (m memory) Size() int64  { return m.size }
func (m memory) Close() error { return nil }

// zeros reads as zeros.
type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

func (v tree) Open(name string) (File, error) {
	for n, text := range v.files {
		if strings.EqualFold(n, name) {
			if size, ok := v.sizes[n]; ok {
				return memory{zeros{}, size}, nil
			}
			return memory{strings.NewReader(text), int64(len(text))}, nil
		}
	}
	return nil, fs.ErrNotExist
}

func (v tree) Config() []byte    { return []byte(v.files["config.txt"]) }
func (v tree) Modules() []string { return v.modules }

func kernel(release string) string {
	return strings.Repeat("x", 3000) + "Linux version %s (%s)\x00Linux version " + release + " (serge@x) (gcc)"
}

// raspios is a boot directory as Raspberry Pi OS has it.
func raspios() tree {
	v := tree{files: map[string]string{"config.txt": "arm_64bit=1\nauto_initramfs=1\ndtoverlay=vc4-kms-v3d\n"}, modules: []string{release, "6.12.25+rpt-rpi-2712"}, sizes: map[string]int64{}}
	for _, n := range []string{
		"bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "cmdline.txt", "overlays/vc4-kms-v3d.dtbo",
		"bcm2710-rpi-3-b.dtb", "bcm2711-rpi-4-b.dtb", "bcm2712-rpi-5-b.dtb",
	} {
		v.files[n] = "x"
	}
	v.files["kernel8.img"], v.files["kernel_2712.img"] = kernel(release), kernel("6.12.25+rpt-rpi-2712")
	v.files["initramfs8"], v.files["initramfs_2712"] = cpio("lib/modules/"+release+"/kernel/x.ko"), cpio("usr/lib/modules/6.12.25+rpt-rpi-2712/modules.dep")
	return v
}

// cpio makes an archive with empty members.
func cpio(names ...string) string {
	var b strings.Builder
	for _, n := range append(names, "TRAILER!!!") {
		fmt.Fprintf(&b, "070701%s%08x%s%08x%s", strings.Repeat("00000001", 6), 0, strings.Repeat("00000000", 4), len(n)+1, "00000000")
		b.WriteString(n + "\x00")
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	return b.String()
}

func gz(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	w.Close()
	return b.String()
}

func zst(s string) string {
	w, _ := zstd.NewWriter(nil)
	return string(w.EncodeAll([]byte(s), nil))
}

func TestCheck(t *testing.T) {
	pi3, pi4, pi5 := Models(0)[0], Models(0)[1], Models(0)[2]
	for _, c := range []struct {
		name   string
		model  Model
		change func(*tree)
		broken string // "": it boots
		warns  string
	}{
		{"Raspberry Pi OS on a 3", pi3, nil, "", ""},
		{"Raspberry Pi OS on a 4", pi4, nil, "", ""},
		{"Raspberry Pi OS on a 5", pi5, nil, "", ""},
		{"a 5 without its own kernel takes kernel8", pi5, func(v *tree) { delete(v.files, "kernel_2712.img") }, "", ""},
		{"a 5 with neither", pi5, func(v *tree) { delete(v.files, "kernel_2712.img"); delete(v.files, "kernel8.img") }, "the kernel of a Pi 5, kernel_2712.img or kernel8.img, is not there", ""},
		{"kernel= names none", pi4, func(v *tree) { v.files["config.txt"] = "kernel=mine.img\n" }, "mine.img, is not there", ""},
		{"kernel= for another model", pi4, func(v *tree) { v.files["config.txt"] += "[pi5]\nkernel=mine.img\n" }, "", ""},
		{"an empty kernel", pi4, func(v *tree) { v.files["kernel8.img"] = "" }, "kernel8.img is empty", ""},
		{"no modules of it", pi4, func(v *tree) { v.modules = []string{"6.6.1"} }, "no modules of it in /lib/modules (there: 6.6.1)", ""},
		{"no modules at all", pi4, func(v *tree) { v.modules = nil }, "", "no kernel modules at all"},
		{"a kernel that says nothing", pi4, func(v *tree) { v.files["kernel8.img"] = "machine code" }, "", "does not say its release"},
		{"a packed kernel", pi4, func(v *tree) { v.files["kernel8.img"] = gz(kernel(release)) }, "", ""},
		{"a packed kernel without modules", pi4, func(v *tree) { v.files["kernel8.img"] = gz(kernel("5.0")) }, "of release 5.0", ""},
		{"a packed kernel cut off", pi4, func(v *tree) { z := gz(kernel(release)); v.files["kernel8.img"] = z[:len(z)-9] }, "the kernel kernel8.img is cut off", ""},
		{"the other flavour's initramfs", pi4, func(v *tree) { v.files["initramfs8"] = v.files["initramfs_2712"] }, "the initramfs initramfs8 is of kernel 6.12.25+rpt-rpi-2712", ""},
		{"zstd", pi4, func(v *tree) { v.files["initramfs8"] = zst(cpio("usr/lib/modules/5.0/x")) }, "is of kernel 5.0", ""},
		{"gzip behind plain", pi4, func(v *tree) { v.files["initramfs8"] = cpio("kernel/x") + "\x00\x00" + gz(cpio("lib/modules/5.0/x")) }, "is of kernel 5.0", ""},
		{"an initramfs cut off", pi4, func(v *tree) { z := gz(cpio("lib/modules/" + release + "/x")); v.files["initramfs8"] = z[:len(z)-20] }, "initramfs8 is cut off", ""},
		{"packed in a strange way", pi4, func(v *tree) { v.files["initramfs8"] = "LZ4 or so" }, "", "packed in a way"},
		{"an initramfs without modules", pi4, func(v *tree) { v.files["initramfs8"] = cpio("init") }, "", ""},
		{"by its name", pi4, func(v *tree) {
			v.files["config.txt"] = "arm_64bit=1\ninitramfs initrd.img-5.0\n"
			v.files["initrd.img-5.0"] = cpio("init")
		}, "initrd.img-5.0 is of kernel 5.0", ""},
		{"auto_initramfs without one", pi4, func(v *tree) { delete(v.files, "initramfs8") }, "", ""},
		{"initramfs named and missing", pi4, func(v *tree) { v.files["config.txt"] = "initramfs mine followkernel\n" }, "the initramfs mine, which config.txt names", ""},
		{"no start4.elf", pi4, func(v *tree) { delete(v.files, "start4.elf") }, "start4.elf, the firmware of a Pi 4", ""},
		{"no start.elf matters not to a 4", pi4, func(v *tree) { delete(v.files, "start.elf") }, "", ""},
		{"no fixup", pi3, func(v *tree) { delete(v.files, "fixup.dat") }, "", "128 MB"},
		{"no bootcode.bin", pi3, func(v *tree) { delete(v.files, "bootcode.bin") }, "", "SD card"},
		{"no device tree", pi4, func(v *tree) { delete(v.files, "bcm2711-rpi-4-b.dtb") }, "", "the device tree of a Pi 4, bcm2711-rpi-4-b.dtb"},
		{"no overlay", pi4, func(v *tree) { delete(v.files, "overlays/vc4-kms-v3d.dtbo") }, "", "overlays/vc4-kms-v3d.dtbo"},
		{"FAT's spelling", pi4, func(v *tree) { v.files["KERNEL8.IMG"] = v.files["kernel8.img"]; delete(v.files, "kernel8.img") }, "", ""},
		{"95 % of a Pi 3's limit", pi3, func(v *tree) { v.sizes["initramfs8"] = 33_000_000 }, "", "close to what the firmware of a Pi 3 can read"},
		{"over a Pi 3's limit", pi3, func(v *tree) { v.sizes["initramfs8"] = 33_600_000 }, "reads at most 33.6 MB", ""},
		{"that is little for a Pi 4", pi4, func(v *tree) { v.sizes["initramfs8"] = 33_600_000 }, "", ""},
		{"over a Pi 4's limit", pi4, func(v *tree) { v.sizes["initramfs8"] = 70_000_000 }, "reads at most 67.1 MB", ""},
		{"over an old Pi 5's limit", pi5, func(v *tree) { v.sizes["initramfs_2712"] = 100_000_000 }, "", "before 2025-09-23"},
		{"os_prefix", pi4, func(v *tree) {
			v.files["config.txt"] = "os_prefix=new/\n"
			v.files["new/kernel8.img"], v.files["new/bcm2711-rpi-4-b.dtb"] = kernel("5.0"), "x"
		}, "the kernel new/kernel8.img is of release 5.0", ""},
		{"os_prefix without a device tree is dropped", pi4, func(v *tree) {
			v.files["config.txt"] = "os_prefix=new/\n"
			v.files["new/kernel8.img"] = kernel("5.0")
		}, "", ""},
		{"boot.img", pi5, func(v *tree) { v.files["config.txt"] = "boot_ramdisk=1\n" }, "boot.img", ""},
		{"names that lead out", pi4, func(v *tree) { v.files["config.txt"] = "kernel=../../etc/shadow\ninclude ../x\n" }, "is not there", ""},
	} {
		v := raspios()
		if c.change != nil {
			c.change(&v)
		}
		r := Check(v, []Model{c.model}, &Cache{})
		broken, warns := strings.Join(r.Broken, "; "), strings.Join(r.Warnings, "; ")
		if (c.broken == "") != r.OK() || !strings.Contains(broken, c.broken) {
			t.Errorf("%s: broken %q, want %q", c.name, broken, c.broken)
		}
		warns = strings.ReplaceAll(warns, "initramfs_2712 cannot be looked into: it is empty for long", "")
		warns = strings.ReplaceAll(warns, "initramfs8 cannot be looked into: it is empty for long", "")
		if !strings.Contains(warns, c.warns) || c.warns == "" && c.broken == "" && warns != "" {
			t.Errorf("%s: warnings %q, want %q", c.name, warns, c.warns)
		}
	}
}

func TestCheckOfSeveralModels(t *testing.T) {
	v := raspios()
	if got := Supported(v, Models(0)); len(got) != 3 {
		t.Errorf("supported %v", got)
	}
	delete(v.files, "bcm2712-rpi-5-b.dtb")
	delete(v.files, "start.elf")
	models := Supported(v, Models(0))
	if len(models) != 1 || models[0].Name != "Pi 4" {
		t.Errorf("supported %v", models)
	}
	r := Check(raspios(), Models(0), nil)
	for _, f := range []string{"start.elf", "start4.elf", "kernel8.img", "kernel_2712.img", "initramfs8", "initramfs_2712", "config.txt", "cmdline.txt", "overlays/vc4-kms-v3d.dtbo"} {
		if !slices.Contains(r.Files, f) {
			t.Errorf("%s is none of the set", f)
		}
	}
	v = raspios()
	delete(v.files, "kernel_2712.img")
	delete(v.files, "kernel8.img")
	v.files["kernel7l.img"] = kernel(release)
	v.files["config.txt"] = "arm_64bit=0\n"
	if r := Check(v, Models(0), nil); !r.OK() || !strings.Contains(strings.Join(r.Warnings, ";"), "kernel of a Pi 5") {
		t.Errorf("a Pi 4 can boot, the others cannot: %+v", r)
	}
	if r := Check(tree{}, Supported(tree{}, Models(0)), nil); r.OK() {
		t.Error("an empty directory boots")
	}
}

// The banner is found wherever it lies, also across what is read at once.
func TestRelease(t *testing.T) {
	for _, at := range []int{0, 100, 1<<20 - 200, 1<<20 - 30, 1<<20 - 14, 1<<20 - 5, 1 << 20, 3 << 20} {
		text := strings.Repeat("\x00", at) + "Linux version " + release + " (x)"
		if got, err := Release(memory{strings.NewReader(text), int64(len(text))}); got != release || err != nil {
			t.Errorf("at %d: %q, %v", at, got, err)
		}
	}
	for _, text := range []string{"", "Linux version", "Linux version %s (", "Linux version 6\x1b[31m (", "Linux version " + strings.Repeat("6", 500) + " "} {
		if got, err := Release(memory{strings.NewReader(text), int64(len(text))}); got != "" || err != nil {
			t.Errorf("%.30q: %q, %v", text, got, err)
		}
	}
}

func TestHistory(t *testing.T) {
	var h History
	boot := func(key string, reports, loaded, good, lastGood bool) bool {
		failed := h.End()
		h.Last = Attempt{ID: "id", Key: key, Reports: reports, Loaded: loaded, LastGood: lastGood}
		if good && !h.Report("id", h.Last.Begun.AddDate(2026, 0, 0)) {
			t.Error("the report is not taken")
		}
		return failed
	}
	falls := func(key string, n int) bool { return h.FallsBack(key, "good", n) }
	boot("a", true, true, true, false)
	if boot("b", true, true, false, false) {
		t.Error("a good boot failed")
	}
	if !boot("b", true, true, false, false) || falls("b", 2) {
		t.Errorf("after one failure: %+v", h)
	}
	if boot("b", true, false, false, false); !falls("b", 2) || falls("c", 2) || falls("b", 3) || falls("b", 0) || h.FallsBack("b", "", 2) || h.FallsBack("b", "b", 2) {
		t.Errorf("after two: %+v", h)
	}
	if boot("good", true, true, true, true) {
		t.Error("a boot that did not read its kernel failed")
	}
	if boot("c", true, true, false, false); !falls("b", 2) {
		t.Errorf("a good boot of the last good files forgets that the own ones fail: %+v", h)
	}
	if boot("c", false, true, false, false); falls("b", 2) || h.FailedKey != "c" || h.Failures != 1 {
		t.Errorf("other files are counted anew: %+v", h)
	}
	if boot("c", false, true, false, false) || h.Failures != 1 {
		t.Errorf("without the unit a boot failed: %+v", h)
	}
	if h.Report("other", h.Last.Begun) || h.Report("", h.Last.Begun) {
		t.Error("another boot's report is taken")
	}
}

func FuzzInitramfs(f *testing.F) {
	a := cpio("init", "lib/modules/6.1/x.ko")
	for _, s := range []string{a, gz(a), zst(a), a + "\x00\x00" + gz(a), a[:50], "070701" + strings.Repeat("f", 104), "\x1f\x8b", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _ := InitramfsReleases(memory{bytes.NewReader(b), int64(len(b))})
		for _, r := range got {
			if r == "" || strings.ContainsAny(r, "/\x00 \n") {
				t.Errorf("release %q", r)
			}
		}
		_, _ = Release(memory{bytes.NewReader(b), int64(len(b))})
	})
}

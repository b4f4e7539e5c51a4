package bootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	pi3b     = Board{Type: type3B, Processor: bcm2837, Serial: 0xb66c4c16}
	pi3bPlus = Board{Type: type3BPlus, Processor: bcm2837, Serial: 0x6c4c16}
	pi4b     = Board{Type: type4B, Processor: bcm2711, Serial: 0x5b154510}
	pi5b     = Board{Type: type5, Processor: bcm2712, Serial: 0xda591740}
)

func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseConfigOfDistributions(t *testing.T) {
	defaults := Settings{CmdlineFile: "cmdline.txt", OverlayPrefix: "overlays/", Arm64: true}
	with := func(f func(*Settings)) Settings { s := defaults; f(&s); return s }
	for name, c := range map[string]struct {
		file    string
		board   Board
		want    Settings
		kernels []string
		initrd  []string
		dtbs    []string
	}{
		"Raspberry Pi OS on a 3B": {
			"raspios-bookworm.config.txt", pi3b,
			with(func(s *Settings) {
				s.AutoInitramfs, s.Overlays = true, []string{"vc4-kms-v3d"}
				s.StartFile, s.FixupFile = "start.elf", "fixup.dat"
			}),
			[]string{"kernel8.img"},
			[]string{"initramfs8"},
			[]string{"bcm2710-rpi-3-b.dtb"},
		},
		"Raspberry Pi OS on a CM5": {
			"raspios-bookworm.config.txt",
			Board{Type: typeCM5, Processor: bcm2712},
			with(func(s *Settings) {
				s.AutoInitramfs, s.Overlays = true, []string{"vc4-kms-v3d", "dwc2"}
			}),
			[]string{"kernel_2712.img", "kernel8.img"},
			[]string{"initramfs_2712"},
			[]string{"bcm2712-rpi-cm5-cm5io.dtb"},
		},
		"Debian on a 3B": {
			"debian-bookworm.config.txt", pi3b,
			with(func(s *Settings) {
				s.Kernel, s.Initramfs = "vmlinuz-6.1.0-37-arm64", []string{"initrd.img-6.1.0-37-arm64"}
				s.FollowKernel, s.EnableUART, s.UpstreamKernel, s.OSPrefix = true, true, true, "upstream/"
				s.StartFile, s.FixupFile = "start.elf", "fixup.dat"
			}),
			[]string{"vmlinuz-6.1.0-37-arm64"},
			[]string{"initrd.img-6.1.0-37-arm64"},
			[]string{"bcm2837-rpi-3-b.dtb", "bcm2710-rpi-3-b.dtb"},
		},
		"Ubuntu on a 3B+": {
			"ubuntu-noble.config.txt", pi3bPlus,
			with(func(s *Settings) {
				s.Kernel, s.Initramfs, s.FollowKernel = "vmlinuz", []string{"initrd.img"}, true
				s.Overlays = []string{"vc4-kms-v3d", "vc4-kms-v3d", "dwc2"}
				s.StartFile, s.FixupFile = "start.elf", "fixup.dat"
			}),
			[]string{"vmlinuz"},
			[]string{"initrd.img"},
			[]string{"bcm2710-rpi-3-b-plus.dtb"},
		},
		"Ubuntu on a 4B": {
			"ubuntu-noble.config.txt", pi4b,
			with(func(s *Settings) {
				s.Kernel, s.Initramfs, s.FollowKernel = "vmlinuz", []string{"initrd.img"}, true
				s.Overlays = []string{"vc4-kms-v3d", "dwc2"}
				s.StartFile, s.FixupFile = "start4.elf", "fixup4.dat"
			}),
			[]string{"vmlinuz"},
			[]string{"initrd.img"},
			[]string{"bcm2711-rpi-4-b.dtb"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := ParseConfig(readTestdata(t, c.file), nil, c.board)
			if d := cmp.Diff(c.want, s); d != "" {
				t.Errorf("settings (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.kernels, s.Kernels(c.board)); d != "" {
				t.Errorf("kernels (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.initrd, s.Initramfses(c.kernels[0])); d != "" {
				t.Errorf("initramfs (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.dtbs, s.DeviceTrees(c.board)); d != "" {
				t.Errorf("device trees (-want +got):\n%s", d)
			}
		})
	}
}

// TestFilters asks which of several kernel= lines counts.
func TestFilters(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		board Board
		want  string
	}{
		"last wins":                   {"kernel=a\nkernel=b", pi3b, "b"},
		"comment":                     {"kernel=a\n #kernel=b\n# kernel=c", pi3b, "a"},
		"CRLF":                        {"kernel=a\r\n[pi4]\r\nkernel=b\r\n", pi3b, "a"},
		"leading blanks":              {"  kernel=a", pi3b, "a"},
		"blank before =":              {"kernel=a\nkernel =b", pi3b, "a"},
		"upper case is another name":  {"kernel=a\nKERNEL=b", pi3b, "a"},
		"[pi3] on 3B":                 {"[pi3]\nkernel=a", pi3b, "a"},
		"[pi3] on 3B+":                {"[pi3]\nkernel=a", pi3bPlus, "a"},
		"[pi3+] on 3B":                {"[pi3+]\nkernel=a", pi3b, ""},
		"[pi3+] on 3B+":               {"[pi3+]\nkernel=a", pi3bPlus, "a"},
		"[pi4] on 400":                {"[pi4]\nkernel=a", Board{Type: type400, Processor: bcm2711}, "a"},
		"[pi400] on 4B":               {"[pi400]\nkernel=a", pi4b, ""},
		"[cm4] on CM4S":               {"[cm4]\nkernel=a", Board{Type: typeCM4S, Processor: bcm2711}, ""},
		"[pi5] on 5":                  {"[pi5]\nkernel=a", pi5b, "a"},
		"same kind replaces":          {"[pi4]\n[pi3]\nkernel=a", pi3b, "a"},
		"kinds combine":               {"[0x1]\n[pi3]\nkernel=a", pi3b, ""},
		"[all] resets":                {"[0x1]\n[pi4]\n[all]\nkernel=a", pi3b, "a"},
		"[none]":                      {"[none]\nkernel=a\n[pi3]\nkernel=b\n[all]\nkernel=c", pi3b, "c"},
		"serial":                      {"[0xb66c4c16]\nkernel=a", pi3b, "a"},
		"serial of 16 digits":         {"[0x10000000b66c4c16]\nkernel=a", pi3b, "a"},
		"serial in upper case":        {"[0xB66C4C16]\nkernel=a", pi3b, "a"},
		"no serial":                   {"[0x0]\nkernel=a", Board{}, ""},
		"board-type":                  {"[board-type=0x08]\nkernel=a", pi3b, "a"},
		"board-type of another":       {"[board-type=0x11]\nkernel=a", pi3b, ""},
		"board-type replaces a model": {"[pi4]\n[board-type=8]\nkernel=a", pi3b, "a"},
		"no monitor":                  {"[EDID=VSC-TD2220]\nkernel=a", pi3b, ""},
		"gpio":                        {"[gpio4=1]\nkernel=a", pi3b, ""},
		"tryboot":                     {"[tryboot]\nkernel=a", pi3b, ""},
		"HDMI on 4B":                  {"[HDMI:0]\nkernel=a", pi4b, "a"},
		"HDMI on 3B":                  {"[HDMI:0]\nkernel=a", pi3b, ""},
		"unknown":                     {"[pi9]\nkernel=a\n[all]\n", pi3b, ""},
		"unclosed":                    {"[pi3\nkernel=a", pi3b, "a"},
		"cut at 98 characters":        {"kernel=" + strings.Repeat("k", 200), pi3b, strings.Repeat("k", 91)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ParseConfig([]byte(c.text), nil, c.board).Kernel; got != c.want {
				t.Errorf("kernel = %q, want %q", got, c.want)
			}
		})
	}
}

func TestSettingsLines(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		board Board
		want  func(Settings) bool
	}{
		"64 bits by default on a 4B":    {"", pi4b, func(s Settings) bool { return s.Arm64 }},
		"32 bits by default on a 3B":    {"", pi3b, func(s Settings) bool { return !s.Arm64 && s.Kernels(pi3b)[0] == "kernel7.img" }},
		"32 bits on a 4B":               {"arm_64bit=0", pi4b, func(s Settings) bool { return s.Kernels(pi4b)[0] == "kernel7l.img" }},
		"a 5 has no 32 bits":            {"arm_64bit=0", pi5b, func(s Settings) bool { return s.Arm64 }},
		"a Pi 1 has no 64 bits":         {"arm_64bit=1", Board{}, func(s Settings) bool { return !s.Arm64 && s.Kernels(Board{})[0] == "kernel.img" }},
		"old name of arm_64bit":         {"arm_control=0x200", pi3b, func(s Settings) bool { return s.Arm64 }},
		"initramfs at an address":       {"initramfs i.gz 0x00800000", pi3b, func(s Settings) bool { return !s.FollowKernel && s.Initramfs[0] == "i.gz" }},
		"two initramfs":                 {"initramfs a,b followkernel", pi3b, func(s Settings) bool { return cmp.Equal(s.Initramfs, []string{"a", "b"}) }},
		"initramfs= is not initramfs":   {"initramfs=a", pi3b, func(s Settings) bool { return s.Initramfs == nil }},
		"ramfsfile":                     {"ramfsfile=a", pi3b, func(s Settings) bool { return s.Initramfs[0] == "a" && s.FollowKernel }},
		"ramfsaddr":                     {"ramfsfile=a\nramfsaddr=0x800000", pi3b, func(s Settings) bool { return !s.FollowKernel }},
		"no initramfs for own kernel":   {"auto_initramfs=1\nkernel=x", pi3b, func(s Settings) bool { return s.Initramfses("x") == nil }},
		"no initramfs after all":        {"auto_initramfs=1\n[all]\nauto_initramfs=0", pi4b, func(s Settings) bool { return s.Initramfses("kernel8.img") == nil }},
		"upstream_kernel and os_prefix": {"os_prefix=a/\nupstream_kernel=1", pi3b, func(s Settings) bool { return s.OSPrefix == "a/" }},
		"no device tree":                {"device_tree=", pi3b, func(s Settings) bool { return s.DeviceTrees(pi3b) == nil }},
		"own device tree":               {"device_tree=my.dtb", pi3b, func(s Settings) bool { return s.DeviceTrees(pi3b)[0] == "my.dtb" }},
		"start_x on a 3B":               {"start_x=1", pi3b, func(s Settings) bool { return s.StartFile == "start_x.elf" && s.FixupFile == "fixup_x.dat" }},
		"start_x on a 4B":               {"start_x=1", pi4b, func(s Settings) bool { return s.StartFile == "start4x.elf" && s.FixupFile == "fixup4x.dat" }},
		"gpu_mem=16":                    {"gpu_mem=16", pi3b, func(s Settings) bool { return s.StartFile == "start_cd.elf" }},
		"start_file":                    {"start_file=s\nfixup_file=f", pi3b, func(s Settings) bool { return s.StartFile == "s" && s.FixupFile == "f" }},
		"empty cmdline=":                {"cmdline=", pi3b, func(s Settings) bool { return s.CmdlineFile == "cmdline.txt" }},
		"boot.img":                      {"boot_ramdisk=1", pi5b, func(s Settings) bool { return s.BootRAMDisk }},
	} {
		t.Run(name, func(t *testing.T) {
			if s := ParseConfig([]byte(c.text), nil, c.board); !c.want(s) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestIncludes(t *testing.T) {
	files := map[string]string{
		"usercfg.txt": "cmdline=mine.txt\n[pi4]\n", // leaves a filter on
		"loop.txt":    "include loop.txt\nos_prefix=loop/",
	}
	read := func(name string) ([]byte, error) {
		if s, ok := files[name]; ok {
			return []byte(s), nil
		}
		return nil, errors.New("no such file")
	}
	s := ParseConfig([]byte("include usercfg.txt\nkernel=after\n[all]\ninclude missing.txt\n"), read, pi3b)
	if s.CmdlineFile != "mine.txt" || s.Kernel != "" || len(s.Warnings) != 1 || len(s.Includes) != 2 {
		t.Errorf("%+v", s)
	}
	s = ParseConfig([]byte("include loop.txt"), read, pi3b)
	if len(s.Includes) != maxIncludes || s.OSPrefix != "loop/" {
		t.Errorf("a file that includes itself: %+v", s)
	}
	if s = ParseConfig([]byte("include usercfg.txt"), nil, pi3b); s.CmdlineFile != "cmdline.txt" || s.Includes != nil {
		t.Errorf("without includes: %+v", s)
	}

	got := CmdlineNames([]byte("[pi9]\ncmdline=a.txt\ninclude usercfg.txt\nos_prefix=p/\ncmdline=/abs.txt\ninclude loop.txt"), read)
	want := []string{
		"cmdline.txt", "p/cmdline.txt", "loop/cmdline.txt", "a.txt", "p/a.txt", "loop/a.txt",
		"mine.txt", "p/mine.txt", "loop/mine.txt", "abs.txt",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("CmdlineNames (-want +got):\n%s", d)
	}
	many := strings.Repeat("cmdline=x\nos_prefix=y/\n", 1000)
	if n := len(CmdlineNames([]byte(many), nil)); n > maxNames*maxNames {
		t.Errorf("%d names of a hostile config.txt", n)
	}
}

func TestPrefixed(t *testing.T) {
	for _, c := range [][3]string{{"", "a", "a"}, {"p/", "a", "p/a"}, {"p/", "/a", "a"}, {"test-", "a", "test-a"}} {
		if got := Prefixed(c[0], c[1]); got != c[2] {
			t.Errorf("Prefixed(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, n := range []string{"raspios-bookworm", "debian-bookworm", "ubuntu-noble"} {
		f.Add(readTestdata(f, n+".config.txt"), byte(type3B), byte(bcm2837))
	}
	f.Add([]byte("[\n[]\n[0x]\n[board-type=]\ninclude \ninitramfs \ninitramfs ,\n=\n"), byte(0xff), byte(0xff))
	f.Fuzz(func(t *testing.T, text []byte, typ, proc byte) {
		b := Board{Type: typ, Processor: proc}
		s := ParseConfig(text, func(string) ([]byte, error) { return text, nil }, b)
		if len(s.Kernels(b)) == 0 || s.CmdlineFile == "" || len(s.Includes) > maxIncludes || len(s.Warnings) > 20 {
			t.Fatalf("%+v", s)
		}
		s.DeviceTrees(b)
		s.Initramfses(s.Kernels(b)[0])
		if len(CmdlineNames(text, nil)) == 0 {
			t.Fatal("no name for the command line")
		}
	})
}

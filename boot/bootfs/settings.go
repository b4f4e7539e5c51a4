package bootfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what config.txt may make us read.
const (
	// MaxConfig is the most bytes of a config.txt, an included file or a
	// cmdline.txt that count.
	MaxConfig = 64 << 10
	// maxLine is where the firmware cuts a line of config.txt
	// (what_is_config_txt.adoc, "File Format").
	maxLine     = 98
	maxIncludes = 16
)

// Settings is what config.txt means to one board, as far as it decides which
// files the firmware reads. Names are as written; they are not cleaned.
type Settings struct {
	Kernel         string   // kernel=; "" is the board's default
	Initramfs      []string // initramfs or ramfsfile=; several are concatenated
	FollowKernel   bool     // initramfs goes right behind the kernel
	AutoInitramfs  bool     // auto_initramfs=1
	CmdlineFile    string   // cmdline=, default cmdline.txt
	OSPrefix       string   // os_prefix=, or "upstream/" of upstream_kernel=1
	OverlayPrefix  string   // overlay_prefix=, default overlays/
	DeviceTree     string   // device_tree=; "" is the board's default
	NoDeviceTree   bool     // device_tree= with nothing behind it
	UpstreamKernel bool     // upstream_kernel=1: Linux' names of device trees first
	Arm64          bool     // the processor starts in 64-bit mode
	EnableUART     bool
	StartFile      string   // start_file= or what start_x, start_debug, gpu_mem imply
	FixupFile      string   // fixup_file=, likewise
	Armstub        string   // armstub=
	BootRAMDisk    bool     // boot_ramdisk=1: the firmware goes on from boot.img
	NoOSCheck      bool     // os_check=0: a Pi 5 takes any device tree
	Overlays       []string // dtoverlay= names in order, without parameters
	Includes       []string // names that include lines asked for, in order
	Warnings       []string // lines with no effect that look as if meant
	BySerial       bool     // a filter asks for the board's serial
}

// ParseConfig reads config.txt as the firmware of the given board does.
// include reads a file that an include line names; nil ignores such lines, as
// bootcode.bin and the EEPROM do. A file that can't be read is a warning.
func ParseConfig(config []byte, include func(name string) ([]byte, error), b Board) Settings {
	p := parser{
		filters: newFilters(b), include: include,
		s: Settings{CmdlineFile: "cmdline.txt", OverlayPrefix: "overlays/", Arm64: b.default64()},
	}
	p.file("config.txt", config)
	p.finish(b)
	return p.s
}

type parser struct {
	filters *filters
	include func(string) ([]byte, error)
	s       Settings

	osPrefixSet, upstream     bool
	startX, startDebug, cutGL bool
}

func (p *parser) warn(format string, args ...any) {
	// A hostile file must not grow a report without bound.
	if len(p.s.Warnings) < 20 {
		p.s.Warnings = append(p.s.Warnings, fmt.Sprintf(format, args...))
	}
}

func (p *parser) file(name string, text []byte) {
	if len(text) > MaxConfig {
		p.warn("%q is longer than %d bytes: the rest was not read", name, MaxConfig)
		text = text[:MaxConfig]
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if len(line) > maxLine && !strings.HasPrefix(line, "#") {
			p.warn("%q:%d: longer than %d characters: the firmware ignores the rest", name, n, maxLine)
			line = line[:maxLine]
		}
		p.line(name, n, strings.TrimSpace(line))
	}
}

func (p *parser) line(file string, n int, line string) {
	if line == "" || line[0] == '#' {
		return
	}
	if section, ok := strings.CutPrefix(line, "["); ok {
		section, _, closed := strings.Cut(section, "]")
		if !closed || !p.filters.section(section) {
			p.warn("%q:%d: unknown filter %q matches nothing", file, n, line)
		}
		return
	}
	if !p.filters.open() {
		return
	}
	if name, ok := strings.CutPrefix(line, "include "); ok {
		p.readInclude(file, n, strings.TrimSpace(name))
		return
	}
	if args, ok := strings.CutPrefix(line, "initramfs "); ok {
		p.initramfs(strings.Fields(args))
		return
	}
	if key, value, ok := strings.Cut(line, "="); ok {
		p.set(key, value)
	}
}

func (p *parser) readInclude(file string, n int, name string) {
	if p.include == nil {
		return
	}
	if len(p.s.Includes) >= maxIncludes {
		p.warn("%q:%d: more than %d include lines: %q not read", file, n, maxIncludes, name)
		return
	}
	p.s.Includes = append(p.s.Includes, name)
	text, err := p.include(name)
	if err != nil {
		p.warn("%q:%d: include %q: %v", file, n, name, err)
		return
	}
	p.file(name, text)
}

// initramfs takes the words behind initramfs: names joined by commas, and
// where to load them: followkernel, 0 (the same) or an address.
func (p *parser) initramfs(words []string) {
	if len(words) == 0 {
		return
	}
	p.s.Initramfs = splitNames(words[0])
	p.s.FollowKernel = len(words) == 1 || words[1] == "followkernel" || words[1] == "0"
}

func splitNames(s string) []string {
	names := strings.Split(s, ",")
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

func (p *parser) set(key, value string) {
	s := &p.s
	switch key {
	case "kernel":
		s.Kernel = value
	case "ramfsfile":
		s.Initramfs, s.FollowKernel = splitNames(value), true
	case "ramfsaddr":
		s.FollowKernel = value == "-1" || value == "0"
	case "auto_initramfs":
		s.AutoInitramfs = isSet(value)
	case "cmdline":
		s.CmdlineFile = value
	case "os_prefix":
		s.OSPrefix, p.osPrefixSet = value, true
	case "overlay_prefix":
		s.OverlayPrefix = value
	case "device_tree":
		s.DeviceTree, s.NoDeviceTree = value, value == ""
	case "upstream_kernel":
		p.upstream = isSet(value)
	case "arm_64bit":
		s.Arm64 = isSet(value)
	case "arm_control":
		if n, err := strconv.ParseInt(value, 0, 64); err == nil && n&0x200 != 0 {
			s.Arm64 = true
		}
	case "enable_uart":
		s.EnableUART = isSet(value)
	case "start_file":
		s.StartFile = value
	case "fixup_file":
		s.FixupFile = value
	case "start_x":
		p.startX = isSet(value)
	case "start_debug":
		p.startDebug = isSet(value)
	case "gpu_mem":
		p.cutGL = value == "16"
	case "armstub":
		s.Armstub = value
	case "boot_ramdisk":
		s.BootRAMDisk = isSet(value)
	case "os_check":
		s.NoOSCheck = !isSet(value)
	case "dtoverlay", "device_tree_overlay":
		if name, _, _ := strings.Cut(value, ","); name != "" && len(s.Overlays) < 64 {
			s.Overlays = append(s.Overlays, name)
		}
	}
}

// isSet reads a number as the firmware does: anything but zero is yes.
func isSet(value string) bool {
	n, err := strconv.ParseInt(value, 0, 64)
	return err == nil && n != 0
}

// finish works out what depends on several lines.
func (p *parser) finish(b Board) {
	s := &p.s
	s.UpstreamKernel, s.BySerial = p.upstream, p.filters.bySerial
	if p.upstream && !p.osPrefixSet {
		s.OSPrefix = "upstream/"
	}
	if s.CmdlineFile == "" {
		s.CmdlineFile = "cmdline.txt"
	}
	s.Arm64 = b.can64() && (s.Arm64 || b.Processor >= bcm2712)
	if s.StartFile == "" && s.FixupFile == "" {
		s.StartFile, s.FixupFile = p.startFiles(b)
	}
}

func (p *parser) startFiles(b Board) (start, fixup string) {
	four := ""
	switch b.Processor {
	case bcm2712:
		return "", "" // all of it is in the EEPROM
	case bcm2711:
		four = "4"
	}
	variant := ""
	switch {
	case p.startX:
		variant = "x"
	case p.startDebug:
		variant = "db"
	case p.cutGL:
		variant = "cd"
	}
	if variant != "" && four == "" {
		variant = "_" + variant
	}
	return "start" + four + variant + ".elf", "fixup" + four + variant + ".dat"
}

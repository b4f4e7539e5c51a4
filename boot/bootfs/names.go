package bootfs

import (
	"slices"
	"strings"
)

// Kernels lists the names the firmware of b tries for the kernel, in order,
// without os_prefix.
func (s Settings) Kernels(b Board) []string {
	if s.Kernel != "" {
		return []string{s.Kernel}
	}
	return b.defaultKernels(s.Arm64)
}

// Initramfses lists the initramfs files that belong to the kernel found, in
// the order they are concatenated, without os_prefix.
func (s Settings) Initramfses(kernel string) []string {
	if len(s.Initramfs) > 0 {
		return s.Initramfs
	}
	if name := autoInitramfs(kernel); s.AutoInitramfs && name != "" {
		return []string{name}
	}
	return nil
}

// DeviceTrees lists the names the firmware of b tries for the device tree, in
// order, without os_prefix. It is empty when config.txt wants none.
func (s Settings) DeviceTrees(b Board) []string {
	switch d := b.dtb(); {
	case s.NoDeviceTree:
		return nil
	case s.DeviceTree != "":
		return []string{s.DeviceTree}
	case s.UpstreamKernel && d.upstream != d.own:
		return []string{d.upstream, d.own}
	default:
		return []string{d.own}
	}
}

// Prefixed puts the given os_prefix before the name of an operating system
// file; a name that begins with a slash is one of the boot directory and takes
// no prefix (boot.adoc, "os_prefix"). The firmware drops the prefix, so that
// it is "", when kernel or device tree are not found with it.
func Prefixed(prefix, name string) string {
	if abs, ok := strings.CutPrefix(name, "/"); ok {
		return abs
	}
	return prefix + name
}

// CmdlineNames lists every name under which a board may ask for its kernel
// command line: each cmdline= with each os_prefix= that config.txt and its
// includes have, whatever the filters around them, since a server often
// doesn't know a board's model when it answers. The first is cmdline.txt. The
// names are as written, bounded in number, and not cleaned.
func CmdlineNames(config []byte, include func(name string) ([]byte, error)) []string {
	c := collector{include: include, files: []string{"cmdline.txt"}, prefixes: []string{""}}
	c.read(config)
	var names []string
	for _, f := range c.files {
		for _, p := range c.prefixes {
			if n := Prefixed(p, f); !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}

type collector struct {
	include         func(string) ([]byte, error)
	files, prefixes []string
	includes        int
}

// maxNames bounds either list of a collector.
const maxNames = 8

func (c *collector) read(text []byte) {
	for line := range strings.Lines(string(text[:min(len(text), MaxConfig)])) {
		line = strings.TrimRight(line, "\r\n")
		line = strings.TrimSpace(line[:min(len(line), maxLine)])
		if name, ok := strings.CutPrefix(line, "include "); ok && c.include != nil && c.includes < maxIncludes {
			c.includes++
			// A file that can't be read has no names; the board sees the same.
			if text, err := c.include(strings.TrimSpace(name)); err == nil {
				c.read(text)
			}
		}
		switch key, value, _ := strings.Cut(line, "="); {
		case value == "":
		case key == "cmdline" && len(c.files) < maxNames:
			c.files = append(c.files, value)
		case key == "os_prefix" && len(c.prefixes) < maxNames:
			c.prefixes = append(c.prefixes, value)
		case key == "upstream_kernel" && isSet(value) && len(c.prefixes) < maxNames:
			c.prefixes = append(c.prefixes, "upstream/")
		}
	}
}

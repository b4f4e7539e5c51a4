package bootfs

import (
	"slices"
	"strconv"
	"strings"
)

// filters is the state of config.txt's conditional filters. A filter of one
// kind replaces the last of its kind, kinds combine, [all] clears them
// (conditional.adoc, "Combining Conditional Filters").
type filters struct {
	board   Board
	blocked map[string]bool // kind -> "does not match"
	// bySerial is set when a filter asked for the board's serial.
	bySerial bool
}

func newFilters(b Board) *filters {
	return &filters{board: b, blocked: make(map[string]bool)}
}

// open says whether settings apply now.
func (f *filters) open() bool {
	for _, b := range f.blocked {
		if b {
			return false
		}
	}
	return true
}

// section takes the text between the brackets of a section line. It returns
// false for a filter it doesn't know, which then matches nothing: that is
// what a firmware does that is older than the filter.
func (f *filters) section(name string) bool {
	kind, match, known := f.match(name)
	if kind == "all" {
		clear(f.blocked)
		return true
	}
	f.blocked[kind] = !match
	return known
}

// modelFilter says whether name is in the documentation's table of models.
func modelFilter(name string) bool {
	switch name {
	case "pi0", "pi0w", "pi02", "pi1", "pi2", "pi3", "pi3+", "pi4", "pi400", "pi5", "pi500",
		"cm0", "cm1", "cm3", "cm3+", "cm4", "cm4s", "cm5":
		return true
	}
	return false
}

func (f *filters) match(name string) (kind string, match, known bool) {
	if modelFilter(name) {
		return "model", slices.Contains(f.board.sees(), name), true
	}
	if serial, ok := strings.CutPrefix(name, "0x"); ok {
		f.bySerial = true
		n, err := strconv.ParseUint(serial, 16, 64)
		// The firmware compares 32 bits; /proc/cpuinfo shows 64.
		return "serial", err == nil && uint32(n) == f.board.Serial && f.board.Serial != 0, err == nil
	}
	key, value, _ := strings.Cut(name, "=")
	switch {
	case name == "all":
		return "all", true, true
	case name == "none":
		return "none", false, true
	case name == "tryboot":
		return "tryboot", false, true
	case key == "board-type":
		n, err := strconv.ParseUint(value, 0, 8)
		return "model", err == nil && byte(n) == f.board.Type, err == nil
	case key == "EDID":
		// A board in a rack has no monitor.
		return "edid", false, true
	case strings.HasPrefix(name, "HDMI:"):
		// Only names the port that settings are for.
		return "hdmi", f.board.Processor >= bcm2711, true
	case strings.HasPrefix(key, "gpio"):
		return "gpio", false, true
	case key == "partition" || key == "boot_partition":
		// Partition 0 is what a board without a disk boots.
		return key, value == "0", true
	}
	return "unknown", false, false
}

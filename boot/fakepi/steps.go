package fakepi

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// step is one thing a stage does with files.
type step struct {
	name string
	do   func(*run, context.Context) error
}

// bare reads a file without prefix that the stage cannot do without.
func bare(name string) step {
	return step{"reading " + name, func(r *run, ctx context.Context) error {
		_, err := r.get(ctx, name, false, false)
		return err
	}}
}

// bareAbsent asks for a file without prefix that boards do not have.
func bareAbsent(name string) step {
	return step{"asking for " + name, func(r *run, ctx context.Context) error {
		_, err := r.get(ctx, name, false, true)
		return passOver(ctx, err)
	}}
}

// absent asks for a file that boards do not have.
func absent(names ...string) step {
	return step{"asking for " + names[0], func(r *run, ctx context.Context) error {
		for _, name := range names {
			if _, err := r.get(ctx, r.prefixed(name), false, true); passOver(ctx, err) != nil {
				return err
			}
		}
		return nil
	}}
}

// decidePrefix looks for the named files below the board's prefix, its serial as
// a rule; when none is there, everything that follows is asked for without.
func decidePrefix(names ...string) step {
	return step{"looking for the board's directory", func(r *run, ctx context.Context) error {
		prefix := r.board.Prefix.of(r.board)
		for _, try := range slices.Compact([]string{prefix, ""}) {
			for _, name := range names {
				_, err := r.get(ctx, try+name, true, false)
				if err == nil {
					if r.res.Prefix = try; try != prefix {
						r.note("there is nothing under %s: files without prefix are used", prefix)
					}
					return nil
				}
				if !errors.Is(err, ErrMissing) {
					return err
				}
			}
		}
		if prefix == "" {
			return fmt.Errorf("%q not found", names[0])
		}
		return fmt.Errorf("%q not found under %s nor bare", names[0], prefix)
	}}
}

// config reads config.txt a number of times, as firmware does; a file that is
// missing is an empty one.
func config(times int) step {
	return step{"reading config.txt", func(r *run, ctx context.Context) error {
		for range times {
			if err := r.readConfig(ctx); err != nil {
				return err
			}
		}
		return nil
	}}
}

// startFiles reads the start*.elf and fixup*.dat that config.txt chose.
func startFiles() step {
	return step{"reading the GPU's firmware", func(r *run, ctx context.Context) error {
		s := r.boot.settings
		if _, err := r.large(ctx, r.prefixed(s.StartFile)); err != nil {
			return err
		}
		_, err := r.get(ctx, r.prefixed(s.FixupFile), false, false)
		if errors.Is(err, ErrMissing) {
			// The board starts, with a fraction of its memory.
			r.note("without a matching %s the board has 128 MB of memory", s.FixupFile)
			return nil
		}
		return err
	}}
}

// probeAgain is the second look at start.elf that bootcode.bin takes.
func probeAgain(name string) step {
	return step{"probing " + name, func(r *run, ctx context.Context) error {
		_, err := r.get(ctx, r.prefixed(name), true, false)
		return passOver(ctx, err)
	}}
}

// passOver makes nothing of a file that is not there.
func passOver(ctx context.Context, err error) error {
	if errors.Is(err, ErrMissing) && ctx.Err() == nil {
		return nil
	}
	return err
}

// The sequences below are those of published captures: of a Pi 3B+, whose second
// stage a 3B shares, and of a Pi 4.

func romSteps() []step {
	// bootsig.bin has to be answered, or the ROM waits.
	return []step{bare("bootcode.bin"), bareAbsent("bootsig.bin")}
}

func bootcodeSteps() []step {
	return []step{
		decidePrefix("start.elf"),
		absent("autoboot.txt"), probeAgain("start.elf"), config(1), absent("recovery.elf"),
		startFiles(),
	}
}

func startSteps() []step {
	return []step{
		absent("recovery.elf"), config(2), absent("dt-blob.bin", "recovery.elf"), config(2),
		absent("bootcfg.txt"),
		{"looking for the kernel", (*run).chooseOS},
		{"reading the initramfs", (*run).readInitramfs},
		{"reading the device tree", (*run).readDeviceTree},
		{"reading the list of overlays", (*run).readOverlayMap},
		config(2),
		{"reading the overlays", (*run).readOverlays},
		{"reading the command line", (*run).readCmdline},
		{"asking for the ARM stub", (*run).askArmstub},
		{"reading the kernel", (*run).readKernel},
	}
}

func eepromSteps() []step {
	return []step{
		decidePrefix("start4.elf", "start.elf"),
		config(1),
		{"asking for the USB controller's firmware", (*run).askVL805},
		absent("pieeprom.sig", "recover4.elf", "recovery.elf"),
		startFiles(),
	}
}

func start4Steps() []step {
	return []step{
		absent("recovery.elf"), config(2), absent("dt-blob.bin", "bootcfg.txt"),
		{"looking for the kernel", (*run).chooseOS},
		{"reading the initramfs", (*run).readInitramfs},
		{"reading the device tree", (*run).readDeviceTree},
		{"reading the list of overlays", (*run).readOverlayMap},
		config(1),
		{"reading the overlays", (*run).readOverlays},
		{"reading the command line", (*run).readCmdline},
		absent("recovery8.img"),
		{"asking for the ARM stub", (*run).askArmstub},
		{"reading the kernel", (*run).readKernel},
	}
}

// pi5Steps are those of a Pi 5's EEPROM, which reads all there is to read: the
// device tree first, by which it sees whether the system is one for this board,
// and the kernel twice. The order is that of logs from a lab (a capture of a
// whole boot was not at hand).
func pi5Steps() []step {
	return []step{
		decidePrefix("config.txt"), config(1),
		absent("pieeprom.sig"),
		{"looking for the kernel under os_prefix", (*run).decideOSPrefix},
		{"reading the device tree", (*run).readDeviceTree},
		{"checking the system", (*run).checkOS},
		{"looking for the kernel", (*run).findKernel},
		{"reading the kernel", (*run).readKernel},
		{"reading the initramfs", (*run).readInitramfs},
		{"reading the list of overlays", (*run).readOverlayMap},
		absent("overlays/bcm2712d0.dtbo"), // for the chip's later stepping
		{"reading the overlays", (*run).readOverlays},
		absent("hat_map.dtb"),
		{"reading the command line", (*run).readCmdline},
		{"asking for the ARM stub", (*run).askArmstub},
	}
}

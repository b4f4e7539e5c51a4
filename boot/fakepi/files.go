package fakepi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"rubus/boot/bootfs"
)

// bootState is what start.elf has found out so far.
type bootState struct {
	settings bootfs.Settings
	// osPrefix is os_prefix once kernel and device tree were found there.
	osPrefix string
	kernel   string
	dtb      string
	// upstreamOverlay says that the kernel wants Linux' device tree and only
	// Raspberry Pi's own was there.
	upstreamOverlay bool
	overlayMap      overlayMap
}

// osName is the full name of a file of the operating system's.
func (r *run) osName(name string) string {
	return r.prefixed(bootfs.Prefixed(r.boot.osPrefix, name))
}

// readConfig reads config.txt and what it includes, and works out what it means.
func (r *run) readConfig(ctx context.Context) error {
	text, err := r.get(ctx, r.prefixed("config.txt"), false, false)
	if passOver(ctx, err) != nil {
		return err
	}
	// Only start*.elf follows include lines, and what does its work on a Pi 5.
	var failed error
	var include func(string) ([]byte, error)
	if strings.HasPrefix(r.now.name, "start") || r.board.fs().Processor == bcm2712Processor {
		include = func(name string) ([]byte, error) {
			text, err := r.get(ctx, r.prefixed(name), false, false)
			if err != nil && passOver(ctx, err) != nil {
				failed = err
			}
			return text, err
		}
	}
	r.boot.settings = bootfs.ParseConfig(text, include, r.board.fs())
	return failed
}

// bcm2712Processor is a Pi 5's in a revision code.
const bcm2712Processor = 4

// chooseOS finds the kernel and with it, whether os_prefix holds.
func (r *run) chooseOS(ctx context.Context) error {
	if err := r.decideOSPrefix(ctx); err != nil || r.boot.kernel != "" {
		return err
	}
	return r.findKernel(ctx)
}

// decideOSPrefix finds out whether os_prefix holds, and then the kernel, too.
func (r *run) decideOSPrefix(ctx context.Context) error {
	s := r.boot.settings
	for _, w := range s.Warnings {
		r.note("%s", w)
	}
	if s.BootRAMDisk {
		return errors.New("config.txt asks for boot.img (boot_ramdisk=1), which is not played")
	}
	if s.OSPrefix == "" {
		return nil
	}
	r.boot.osPrefix = s.OSPrefix
	found, err := r.haveOS(ctx)
	if err != nil || found {
		return err
	}
	if !s.UpstreamKernel { // which asks for the prefix whether there is one or not
		r.note("kernel or device tree is not under os_prefix %q: it is dropped", s.OSPrefix)
	}
	r.boot.osPrefix, r.boot.kernel, r.boot.dtb = "", "", ""
	return nil
}

// findKernel finds the first of the kernels that are there.
func (r *run) findKernel(ctx context.Context) error {
	if r.boot.kernel != "" {
		return nil
	}
	s := r.boot.settings
	names := s.Kernels(r.board.fs())
	// A 3 in 32-bit mode looks for 64-bit kernels all the same, as captures show.
	if !s.Arm64 && s.Kernel == "" && r.board.Revision.Processor() == 2 {
		for _, name := range []string{"kernel8.img", "kernel8-32.img"} {
			if _, err := r.get(ctx, r.osName(name), true, true); passOver(ctx, err) != nil {
				return err
			}
		}
	}
	if err := r.probeFirst(ctx, names, &r.boot.kernel); err != nil {
		return err
	}
	if r.boot.kernel == "" {
		return fmt.Errorf("no kernel: none of %s is there", strings.Join(names, ", "))
	}
	return nil
}

// checkOS is what a Pi 5 does before it starts a kernel: a device tree that is
// not for its chip means a system from before it.
func (r *run) checkOS(context.Context) error {
	if r.boot.settings.NoOSCheck || r.res.DTB.Name == "" || bytes.Contains(r.res.DTB.Data, []byte("brcm,bcm2712")) {
		return nil
	}
	return fmt.Errorf("the system is not one for a Pi 5: %s does not name brcm,bcm2712 (os_check=0 in config.txt leaves the check out)", r.res.DTB.Name)
}

// haveOS says whether both kernel and device tree are under os_prefix.
func (r *run) haveOS(ctx context.Context) (bool, error) {
	s, b := r.boot.settings, r.board.fs()
	if err := r.probeFirst(ctx, s.Kernels(b), &r.boot.kernel); err != nil || r.boot.kernel == "" {
		return false, err
	}
	if s.NoDeviceTree {
		return true, nil
	}
	err := r.probeFirst(ctx, s.DeviceTrees(b), &r.boot.dtb)
	return r.boot.dtb != "", err
}

// probeFirst puts the first name that is there into found.
func (r *run) probeFirst(ctx context.Context, names []string, found *string) error {
	for i, name := range names {
		_, err := r.get(ctx, r.osName(name), true, i+1 < len(names) || r.boot.osPrefix != "")
		if err == nil {
			*found = name
			return nil
		}
		if passOver(ctx, err) != nil {
			return err
		}
	}
	return nil
}

func (r *run) readInitramfs(ctx context.Context) error {
	s := r.boot.settings
	for _, name := range s.Initramfses(r.boot.kernel) {
		full := r.osName(name)
		_, err := r.get(ctx, full, true, false)
		if err == nil {
			var f File
			if f, err = r.large(ctx, full); err == nil {
				r.res.Initramfs = joined(r.res.Initramfs, f)
			}
		}
		if passOver(ctx, err) != nil {
			return err
		}
		if err != nil {
			// Firmware starts the kernel all the same.
			r.note("no initramfs %s: the kernel starts without it", full)
		}
	}
	return nil
}

// joined puts several initramfs files one behind the other.
func joined(a, b File) File {
	if a.Name == "" {
		return b
	}
	return File{a.Name + "," + b.Name, append(a.Data, b.Data...), a.Size + b.Size}
}

func (r *run) readDeviceTree(ctx context.Context) error {
	s := r.boot.settings
	names := s.DeviceTrees(r.board.fs())
	for i, name := range names {
		full := r.osName(name)
		// The device tree is read twice: for its size, then for itself.
		_, err := r.get(ctx, full, true, i+1 < len(names))
		if err == nil {
			data, err := r.get(ctx, full, false, false)
			if err != nil {
				return err
			}
			r.res.DTB = newFile(full, data)
			if i > 0 && s.UpstreamKernel {
				r.note("%s is Raspberry Pi's own: the overlay \"upstream\" is added", name)
				r.boot.upstreamOverlay = true
			}
			return nil
		}
		if passOver(ctx, err) != nil {
			return err
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("no device tree: none of %s is there", strings.Join(names, ", "))
	}
	return nil
}

func (r *run) readOverlays(ctx context.Context) error {
	s := r.boot.settings
	names := s.Overlays
	if r.boot.upstreamOverlay {
		names = append([]string{"upstream"}, names...)
	}
	dir := ""
	if len(names) > 0 {
		dir = r.overlayDir(ctx)
	}
	for _, asked := range names {
		name, why := r.boot.overlayMap.name(asked, r.board.Revision.Processor())
		if name == "" {
			r.note("overlay %s is left out: %s", asked, why)
			continue
		}
		full := r.prefixed(dir + name + ".dtbo")
		var data []byte
		_, err := r.get(ctx, full, true, false)
		if err == nil {
			data, err = r.get(ctx, full, false, false)
		}
		switch {
		case err == nil:
			r.res.Overlays = append(r.res.Overlays, newFile(full, data))
		case passOver(ctx, err) != nil:
			return err
		default:
			r.note("no overlay %s: it is left out", full)
		}
	}
	return nil
}

// overlayDir is where overlays lie: below os_prefix only if a README says so.
func (r *run) overlayDir(ctx context.Context) string {
	s := r.boot.settings
	if r.boot.osPrefix != "" {
		dir := r.boot.osPrefix + s.OverlayPrefix
		if _, err := r.get(ctx, r.prefixed(dir+"README"), true, true); err == nil {
			return dir
		}
	}
	return s.OverlayPrefix
}

func (r *run) readCmdline(ctx context.Context) error {
	full := r.osName(r.boot.settings.CmdlineFile)
	_, err := r.get(ctx, full, true, false)
	var data []byte
	if err == nil {
		data, err = r.get(ctx, full, false, false)
	}
	if passOver(ctx, err) != nil {
		return err
	}
	if err != nil {
		r.note("no %s: the kernel gets no command line of yours", full)
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	if strings.TrimSpace(rest) != "" {
		r.note("%s has more than one line: the first counts", full)
	}
	r.res.Cmdline = strings.TrimSpace(line)
	return nil
}

func (r *run) askArmstub(ctx context.Context) error {
	s, m := r.boot.settings, r.board.Model
	names := m.armstub32
	switch {
	case s.Armstub != "":
		names = []string{s.Armstub}
	case s.Arm64:
		names = m.armstub64
	}
	for _, name := range names {
		_, err := r.get(ctx, r.prefixed(name), false, s.Armstub == "")
		if err == nil || passOver(ctx, err) != nil {
			return err
		}
	}
	return nil
}

// askVL805 asks for the USB controller's firmware, which a 4B up to revision 1.3
// keeps in a flash of its own.
func (r *run) askVL805(ctx context.Context) error {
	const type4B = 0x11
	if r.board.Revision.Type() != type4B || r.board.Revision&0xf > 3 {
		return nil
	}
	return absent("vl805.sig", "vl805.bin").do(r, ctx)
}

func (r *run) readKernel(ctx context.Context) error {
	f, err := r.large(ctx, r.osName(r.boot.kernel))
	if err != nil {
		return err
	}
	r.res.Kernel, r.res.Arm64 = f, r.boot.settings.Arm64
	return nil
}

// large reads a file whose content is of no use to the firmware.
func (r *run) large(ctx context.Context, full string) (File, error) {
	r.discard = r.opt.Discard
	defer func() { r.discard = false }()
	data, err := r.get(ctx, full, false, false)
	if err != nil {
		return File{}, err
	}
	return File{Name: full, Data: data, Size: r.size}, nil
}

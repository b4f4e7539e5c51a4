package emulator

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/fdt"
)

// maxKernel bounds a kernel that is unpacked.
const maxKernel = 256 << 20

// ErrNoMachine says that QEMU has no machine for the model.
var ErrNoMachine = errors.New("QEMU plays only the Pi 3")

// usbRule is a udev rule for QEMU's USB network card. It is looked at in the
// initramfs, before systemd starts, which then finds its longer time there.
const usbRule = `ACTION=="add", SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ATTR{idVendor}=="0525", ATTR{idProduct}=="a4a2", ATTR{bConfigurationValue}="2", RUN+="/bin/sh -c 'd=/run/systemd/system.conf.d; mkdir -p $$d; echo [Manager] >$$d/emulator.conf; echo DefaultDeviceTimeoutSec=15min >>$$d/emulator.conf'"
`

// Addition is something that the emulator adds to what was fetched.
type Addition struct {
	// Where is "command line" or "initramfs".
	Where string `json:"where"`
	Text  string `json:"text"`
	Why   string `json:"why"`
}

// files is what QEMU is started with.
type files struct {
	kernel, initramfs, dtb []byte
	// cmdline is the fetched one.
	cmdline   string
	additions []Addition
}

// fullCmdline is the fetched command line and the emulator's own words behind it.
func (f files) fullCmdline() string {
	line := f.cmdline
	for _, a := range f.additions {
		if a.Where == onCmdline {
			line += " " + a.Text
		}
	}
	return line
}

// prepare makes of what was fetched what QEMU is started with. What it changes
// is what firmware would have written into the device tree, and what QEMU's
// devices need; see additions.
func prepare(res *fakepi.Result, random io.Reader) (files, error) {
	if res.Board.Revision.Processor() != 2 {
		return files{}, fmt.Errorf("%w: no machine of QEMU's has the devices of a %s (--model 3b has one)", ErrNoMachine, res.Board.Model.Title)
	}
	if !res.Arm64 {
		return files{}, errors.New("config.txt starts the kernel in 32-bit mode: the emulator needs arm_64bit=1")
	}
	kernel, err := unpackKernel(res.Kernel)
	if err != nil {
		return files{}, err
	}
	dtb, err := patchTree(res, random)
	if err != nil {
		return files{}, err
	}
	f := files{kernel: kernel, dtb: dtb, cmdline: res.Cmdline, additions: additions(res.Cmdline, res.DTB.Name)}
	if len(res.Initramfs.Data) > 0 {
		rule := entry{name: usbRuleName, mode: 0o644, data: []byte(usbRule)}
		f.additions = append(f.additions, Addition{
			inInitramfs, "/" + usbRuleName,
			"picks the faster of the two modes of QEMU's USB network card, and lets systemd wait longer for devices",
		})
		// The kernel takes a plain archive behind a packed one if it begins at
		// a multiple of 4.
		f.initramfs = append(pad(bytes.Clone(res.Initramfs.Data), 4), cpio([]entry{rule})...)
	}
	return f, nil
}

// unpackKernel is the kernel as a plain Image; firmware takes gzip as well.
func unpackKernel(k fakepi.File) ([]byte, error) {
	image := k.Data
	if bytes.HasPrefix(image, []byte{0x1f, 0x8b}) {
		r, err := gzip.NewReader(bytes.NewReader(image))
		if err != nil {
			return nil, fmt.Errorf("unpacking %q: %w", k.Name, err)
		}
		image, err = io.ReadAll(io.LimitReader(r, maxKernel+1))
		if err != nil {
			return nil, fmt.Errorf("unpacking %q: %w", k.Name, err)
		}
		if len(image) > maxKernel {
			return nil, fmt.Errorf("unpacking %q: larger than %d bytes", k.Name, maxKernel)
		}
	}
	// Of the header in the kernel's documentation, arch/arm64/booting.
	if len(image) < 64 || !bytes.Equal(image[56:60], []byte("ARM\x64")) {
		return nil, fmt.Errorf("%q is no arm64 kernel image", k.Name)
	}
	return image, nil
}

// patchTree writes into the device tree what firmware writes there and QEMU
// does not: the serial number, and seeds for the kernel's randomness.
func patchTree(res *fakepi.Result, random io.Reader) ([]byte, error) {
	if len(res.DTB.Data) == 0 {
		return nil, errors.New("config.txt wants no device tree: no kernel for a Pi starts without")
	}
	tree, err := fdt.Parse(res.DTB.Data)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", res.DTB.Name, err)
	}
	seed := make([]byte, 40)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("making seeds: %w", err)
	}
	tree.Root.SetString("serial-number", "00000000"+res.Board.Serial.String())
	chosen := tree.Make("/chosen")
	chosen.Set("rng-seed", seed[:32])
	chosen.Set("kaslr-seed", seed[32:])
	return tree.Encode(), nil
}

// Where additions go.
const (
	onCmdline   = "command line"
	inInitramfs = "initramfs"
	usbRuleName = "usr/lib/udev/rules.d/59-qemu-usb.rules"
)

// additions are the words that QEMU's machine needs and a board's would not.
func additions(cmdline, dtb string) []Addition {
	own := []Addition{
		{
			onCmdline, "modprobe.blacklist=cdc_ether,cdc_subset,btbcm,hci_uart,bcm2835_v4l2,vchiq",
			"the network card in its slower mode, Bluetooth and the GPU's mailboxes, which QEMU has not",
		},
		{onCmdline, "systemd.default_timeout_start_sec=900", "an emulated board is slow"},
	}
	// The login prompt is wanted on QEMU's second serial port. Raspberry Pi's
	// kernels count it as the first.
	port := "ttyS1"
	if strings.Contains(dtb, "bcm2710-") {
		port = "ttyS0"
	}
	last := ""
	for word := range strings.FieldsSeq(cmdline) {
		if c, ok := strings.CutPrefix(word, "console="); ok {
			last, _, _ = strings.Cut(c, ",")
		}
	}
	if last != port {
		own = append(own, Addition{onCmdline, "console=" + port + ",115200", "the serial port that the emulator reads"})
	}
	return own
}

// The numbers of the files that QEMU inherits.
const (
	nicFD = 3 + iota
	consoleFD
	monitorFD
	kernelFD
	dtbFD
	initramfsFD
)

// arguments is QEMU's command line. The second -serial is the mini UART, which
// is the console of Linux on a Pi 3.
func arguments(f files, mac string) []string {
	file := func(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
	args := []string{"-M", "raspi3b", "-kernel", file(kernelFD), "-dtb", file(dtbFD)}
	if f.initramfs != nil {
		args = append(args, "-initrd", file(initramfsFD))
	}
	return append(args,
		"-append", f.fullCmdline(),
		"-netdev", fmt.Sprintf("tap,id=n0,fd=%d", nicFD),
		"-device", "usb-net,port=1,netdev=n0,mac="+mac,
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleFD),
		"-serial", "null", "-serial", "chardev:console",
		"-display", "none",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD), "-mon", "chardev=monitor,mode=control",
		// A reset goes through the firmware, which is not QEMU's.
		"-no-reboot",
	)
}

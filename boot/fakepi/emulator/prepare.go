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

// rndisRule picks the mode of QEMU's USB network card that is six times as
// fast as the one Linux would take.
const rndisRule = `ACTION=="add", SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ATTR{idVendor}=="0525", ATTR{idProduct}=="a4a2", ATTR{bConfigurationValue}="2"
`

// Word is a word of the kernel's command line that the emulator adds.
type Word struct{ Text, Why string }

// files is what QEMU is started with.
type files struct {
	kernel, initramfs, dtb []byte
	// cmdline is the fetched one, and words are the emulator's own behind it.
	cmdline string
	words   []Word
}

// append is the whole command line.
func (f files) append() string {
	line := f.cmdline
	for _, w := range f.words {
		line += " " + w.Text
	}
	return line
}

// prepare makes of what was fetched what QEMU is started with. What it changes
// is what firmware would have written into the device tree, and what QEMU's
// devices need: see words and the udev rule.
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
	f := files{kernel: kernel, dtb: dtb, cmdline: res.Cmdline, words: words(res.Cmdline, res.DTB.Name)}
	if len(res.Initramfs.Data) > 0 {
		rule := entry{name: "usr/lib/udev/rules.d/59-qemu-rndis.rules", mode: 0o644, data: []byte(rndisRule)}
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

// words are the words that QEMU's machine needs and a board's would not.
func words(cmdline, dtb string) []Word {
	own := []Word{{
		"modprobe.blacklist=cdc_ether,cdc_subset,btbcm,hci_uart,bcm2835_v4l2,vchiq",
		"the USB network card in its slow mode, Bluetooth and the GPU's mailboxes, which QEMU has not",
	}}
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
		own = append(own, Word{"console=" + port + ",115200", "the serial port that the emulator reads"})
	}
	return own
}

// The numbers of the files that QEMU inherits.
const (
	nicFD     = 3
	consoleFD = 4
)

// arguments is QEMU's command line. The second -serial is the mini UART, which
// is the console of Linux on a Pi 3.
func arguments(dir string, f files, mac string) []string {
	args := []string{"-M", "raspi3b", "-kernel", dir + "/kernel", "-dtb", dir + "/board.dtb"}
	if f.initramfs != nil {
		args = append(args, "-initrd", dir+"/initramfs")
	}
	return append(args,
		"-append", f.append(),
		"-netdev", fmt.Sprintf("tap,id=n0,fd=%d", nicFD),
		"-device", "usb-net,port=1,netdev=n0,mac="+mac,
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleFD),
		"-serial", "file:"+dir+"/uart0.log", "-serial", "chardev:console",
		"-display", "none", "-monitor", "none", "-no-reboot",
	)
}

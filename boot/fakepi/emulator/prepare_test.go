package emulator

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/fdt"
	"rubus/config/device"
)

var update = flag.Bool("update", false, "write golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (-update writes it):\n%s", path, got)
	}
}

// image is the least that passes for a kernel.
func image() []byte {
	b := make([]byte, 64)
	copy(b[56:], "ARM\x64")
	return b
}

// result is what a board might have fetched.
func result(t *testing.T, model string) *fakepi.Result {
	t.Helper()
	s, err := device.ParseSerial("b66c4c16")
	if err != nil {
		t.Fatal(err)
	}
	b, err := fakepi.NewBoard(model, s, device.MAC{})
	if err != nil {
		t.Fatal(err)
	}
	tree := &fdt.Tree{Root: &fdt.Node{}}
	tree.Root.SetString("compatible", "raspberrypi,3-model-b")
	return &fakepi.Result{
		Board: b, Arm64: true, Kernel: fakepi.File{Name: "vmlinuz", Data: image()},
		Initramfs: fakepi.File{Name: "initrd.img", Data: []byte("packed")},
		DTB:       fakepi.File{Name: "bcm2837-rpi-3-b.dtb", Data: tree.Encode()},
		Cmdline:   "console=tty0 console=ttyS1,115200 root=/dev/nfs nfsroot=10.0.0.1:/b66c4c16,vers=3 ip=dhcp rw",
	}
}

func TestArguments(t *testing.T) {
	f, err := prepare(result(t, "3b"), bytes.NewReader(make([]byte, 40)))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "arguments", strings.Join(arguments(f, "b8:27:eb:6c:4c:16"), "\n")+"\n")
}

func TestTreeIsTheBoards(t *testing.T) {
	f, err := prepare(result(t, "3b"), strings.NewReader(strings.Repeat("abcdefgh", 5)))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := fdt.Parse(f.dtb)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/ serial-number": "00000000b66c4c16\x00", "/ compatible": "raspberrypi,3-model-b\x00",
		"/chosen rng-seed": strings.Repeat("abcdefgh", 4), "/chosen kaslr-seed": "abcdefgh",
	} {
		node, prop, _ := strings.Cut(path, " ")
		if v, _ := tree.Find(node).Get(prop); string(v) != want {
			t.Errorf("%s is %q", path, v)
		}
	}
}

func TestWords(t *testing.T) {
	for name, c := range map[string]struct {
		cmdline, dtb string
		console      string // of the emulator's own; "" none
	}{
		"the board's own is the last": {"console=tty0 console=ttyS1,115200 rw", "bcm2837-rpi-3-b.dtb", ""},
		"another one is the last":     {"console=ttyS1,115200 console=tty0", "bcm2837-rpi-3-b.dtb", "console=ttyS1,115200"},
		"none":                        {"quiet", "x/bcm2837-rpi-3-b.dtb", "console=ttyS1,115200"},
		"Raspberry Pi's own kernel":   {"console=serial0,115200", "x/bcm2710-rpi-3-b.dtb", "console=ttyS0,115200"},
	} {
		own := additions(c.cmdline, c.dtb)
		got := ""
		if len(own) == 3 {
			got = own[2].Text
		}
		if !strings.HasPrefix(own[0].Text, "modprobe.blacklist=") || got != c.console {
			t.Errorf("%s: %v", name, own)
		}
	}
}

func TestKernel(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(image()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": image(), "gzip": packed.Bytes()} {
		got, err := unpackKernel(fakepi.File{Data: data})
		if err != nil || !bytes.Equal(got, image()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{"empty": nil, "x86": bytes.Repeat([]byte{0x90}, 100), "cut gzip": packed.Bytes()[:12]} {
		if _, err := unpackKernel(fakepi.File{Data: data}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		model  string
		change func(*fakepi.Result)
		want   string
	}{
		"a Pi 4":         {"4b", func(*fakepi.Result) {}, "QEMU plays only the Pi 3"},
		"32 bits":        {"3b", func(r *fakepi.Result) { r.Arm64 = false }, "arm_64bit=1"},
		"no device tree": {"3b", func(r *fakepi.Result) { r.DTB = fakepi.File{} }, "no device tree"},
		"a broken one":   {"3b", func(r *fakepi.Result) { r.DTB.Data = []byte("no") }, "bcm2837-rpi-3-b.dtb"},
		"no kernel":      {"3b", func(r *fakepi.Result) { r.Kernel.Data = []byte("no") }, "no arm64 kernel"},
	} {
		r := result(t, c.model)
		c.change(r)
		if _, err := prepare(r, bytes.NewReader(make([]byte, 40))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := prepare(result(t, "4b"), nil); !errors.Is(err, ErrNoMachine) {
		t.Error(err)
	}
}

// TestCpio: the archive is one for the program of that name.
func TestCpio(t *testing.T) {
	archive := cpio([]entry{
		{"usr/lib/udev/rules.d/59-qemu-usb.rules", 0o644, []byte(usbRule)},
		{"usr/lib/x", 0o755, nil},
	})
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"-tv", "drwxr-xr-x   2 root"},
		{"-t", "usr\nusr/lib\nusr/lib/udev\nusr/lib/udev/rules.d\nusr/lib/udev/rules.d/59-qemu-usb.rules\nusr/lib/x\n"},
		{"-i", ""},
	} {
		cmd := exec.Command("cpio", "--quiet", c.args)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Fatalf("cpio %s (package cpio): %v\n%s", c.args, err, out)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "usr/lib/udev/rules.d/59-qemu-usb.rules"))
	if err != nil || string(got) != usbRule {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestInitramfsKeepsWhatWasFetched(t *testing.T) {
	r := result(t, "3b")
	f, err := prepare(r, bytes.NewReader(make([]byte, 40)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(f.initramfs, []byte("packed\x00\x00070701")) || string(r.Initramfs.Data) != "packed" {
		t.Fatalf("%.40q", f.initramfs)
	}
	r.Initramfs = fakepi.File{}
	if f, err = prepare(r, bytes.NewReader(make([]byte, 40))); err != nil || f.initramfs != nil {
		t.Fatal("an initramfs out of nowhere", err)
	}
}

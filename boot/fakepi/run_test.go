package fakepi

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares text with a file in testdata.
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

// TestSequences holds what each model asks for against a golden list.
func TestSequences(t *testing.T) {
	piOS := func() map[string][]byte {
		return with(debian(), map[string]string{
			"config.txt": "arm_64bit=1\nauto_initramfs=1\ndtoverlay=vc4-kms-v3d\ninclude more.txt\n[pi3]\ndtoverlay=only3,x=1\n[pi4]\ndtoverlay=only4\n",
			"more.txt":   "disable_splash=1\n", "kernel8.img": "kernel", "initramfs8": "initramfs",
			"bcm2710-rpi-3-b.dtb": "dtb", "bcm2710-rpi-3-b-plus.dtb": "dtb", "overlays/vc4-kms-v3d.dtbo": "overlay",
			"overlays/only3.dtbo": "o3", "overlays/only4.dtbo": "o4", "overlays/overlay_map.dtb": string(mapOf()), "overlays/vc4-kms-v3d-pi4.dtbo": "overlay", "overlays/vc4-kms-v3d-pi5.dtbo": "overlay",
			"kernel_2712.img": "kernel of a 5", "initramfs_2712": "initramfs of a 5",
			"bcm2712-rpi-5-b.dtb": "brcm,bcm2712 five", "bcm2712-rpi-500.dtb": "brcm,bcm2712", "bcm2712-rpi-cm5-cm5io.dtb": "brcm,bcm2712",
		})
	}
	vc4 := []File{{Name: "b66c4c16/overlays/vc4-kms-v3d.dtbo"}}
	vc4of5 := []File{{Name: "b66c4c16/overlays/vc4-kms-v3d-pi5.dtbo"}}
	for name, c := range map[string]struct {
		model string
		files map[string][]byte
		want  Result
		setup Setup
		arm32 bool
	}{
		"3b-debian": {"3b", below("b66c4c16/", debian()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/vmlinuz-6.1"}, Initramfs: File{Name: "b66c4c16/initrd.img-6.1"},
			DTB: File{Name: "b66c4c16/bcm2837-rpi-3-b.dtb"},
		}, Setup{}, false},
		"3b-bare": {"3b", debian(), Result{
			Kernel: File{Name: "vmlinuz-6.1"}, Initramfs: File{Name: "initrd.img-6.1"}, DTB: File{Name: "bcm2837-rpi-3-b.dtb"},
		}, Setup{}, false},
		"3b+-debian": {"3b+", below("b66c4c16/", debian()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/vmlinuz-6.1"}, Initramfs: File{Name: "b66c4c16/initrd.img-6.1"},
			DTB: File{Name: "b66c4c16/bcm2837-rpi-3-b-plus.dtb"},
		}, Setup{}, false},
		"3b+-pios": {"3b+", below("b66c4c16/", piOS()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/kernel8.img"}, Initramfs: File{Name: "b66c4c16/initramfs8"},
			DTB:      File{Name: "b66c4c16/bcm2710-rpi-3-b-plus.dtb"},
			Overlays: []File{{Name: "b66c4c16/overlays/vc4-kms-v3d.dtbo"}, {Name: "b66c4c16/overlays/only3.dtbo"}},
		}, Setup{}, false},
		"3b-upstream-overlay": {
			"3b", below("b66c4c16/", with(debian(), map[string]string{
				"bcm2837-rpi-3-b.dtb": "", "bcm2710-rpi-3-b.dtb": "dtb", "overlays/upstream.dtbo": "o",
			})),
			Result{
				Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/vmlinuz-6.1"}, Initramfs: File{Name: "b66c4c16/initrd.img-6.1"},
				DTB: File{Name: "b66c4c16/bcm2710-rpi-3-b.dtb"}, Overlays: []File{{Name: "b66c4c16/overlays/upstream.dtbo"}},
			},
			Setup{},
			false,
		},
		"3b-os-prefix": {
			"3b+", below("b66c4c16/", with(debian(), map[string]string{
				"config.txt": "os_prefix=next/\narm_64bit=1\nkernel=vmlinuz\ndevice_tree=pi.dtb\ndtoverlay=a\n", "next/vmlinuz": "k",
				"next/pi.dtb": "d", "next/cmdline.txt": "console=ttyS1,115200 root=/dev/nfs", "overlays/a.dtbo": "o",
			})),
			Result{
				Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/next/vmlinuz"}, DTB: File{Name: "b66c4c16/next/pi.dtb"},
				Overlays: []File{{Name: "b66c4c16/overlays/a.dtbo"}},
			},
			Setup{},
			false,
		},
		"4b-debian": {"4b", below("b66c4c16/", debian()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/vmlinuz-6.1"}, Initramfs: File{Name: "b66c4c16/initrd.img-6.1"},
			DTB: File{Name: "b66c4c16/bcm2711-rpi-4-b.dtb"},
		}, Setup{}, false},
		"4b-pios": {"4b", below("b66c4c16/", piOS()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/kernel8.img"}, Initramfs: File{Name: "b66c4c16/initramfs8"},
			DTB:      File{Name: "b66c4c16/bcm2711-rpi-4-b.dtb"},
			Overlays: []File{{Name: "b66c4c16/overlays/vc4-kms-v3d-pi4.dtbo"}, {Name: "b66c4c16/overlays/only4.dtbo"}},
		}, Setup{}, false},
		"3b-32bit": {
			"3b", below("b66c4c16/", with(piOS(), map[string]string{"config.txt": "dtoverlay=vc4-kms-v3d\n", "kernel7.img": "k7"})),
			Result{Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/kernel7.img"}, DTB: File{Name: "b66c4c16/bcm2710-rpi-3-b.dtb"}, Overlays: vc4},
			Setup{},
			true,
		},
		"4b-32bit": {
			"4b", below("b66c4c16/", with(piOS(), map[string]string{"config.txt": "arm_64bit=0\nauto_initramfs=1\n", "kernel7l.img": "k7", "initramfs7l": "i7"})),
			Result{Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/kernel7l.img"}, Initramfs: File{Name: "b66c4c16/initramfs7l"}, DTB: File{Name: "b66c4c16/bcm2711-rpi-4-b.dtb"}},
			Setup{},
			true,
		},
		"4b-first-revision": {"4b", below("b66c4c16/", debian()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/vmlinuz-6.1"}, Initramfs: File{Name: "b66c4c16/initrd.img-6.1"},
			DTB: File{Name: "b66c4c16/bcm2711-rpi-4-b.dtb"},
		}, Setup{Revision: 0xc03111, EEPROM: day("2020-03-04")}, false},
		"4b-mac-prefix": {"4b", below("dc-a6-32-6c-4c-16/", debian()), Result{
			Prefix: "dc-a6-32-6c-4c-16/", Kernel: File{Name: "dc-a6-32-6c-4c-16/vmlinuz-6.1"}, Initramfs: File{Name: "dc-a6-32-6c-4c-16/initrd.img-6.1"},
			DTB: File{Name: "dc-a6-32-6c-4c-16/bcm2711-rpi-4-b.dtb"},
		}, Setup{Prefix: Prefix{kind: prefixMAC}}, false},
		"400-debian": {"400", below("lab/", debian()), Result{
			Prefix: "lab/", Kernel: File{Name: "lab/vmlinuz-6.1"}, Initramfs: File{Name: "lab/initrd.img-6.1"}, DTB: File{Name: "lab/bcm2711-rpi-400.dtb"},
		}, Setup{Prefix: Prefix{prefixText, "lab/"}, EEPROM: day("2021-01-16")}, false},
		"cm4-no-prefix": {"cm4", debian(), Result{
			Kernel: File{Name: "vmlinuz-6.1"}, Initramfs: File{Name: "initrd.img-6.1"}, DTB: File{Name: "bcm2711-rpi-cm4-io.dtb"},
		}, Setup{Prefix: Prefix{kind: prefixText}}, false},
		"5-pios": {"5", below("b66c4c16/", piOS()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/kernel_2712.img"}, Initramfs: File{Name: "b66c4c16/initramfs_2712"},
			DTB: File{Name: "b66c4c16/bcm2712-rpi-5-b.dtb"}, Overlays: vc4of5,
		}, Setup{}, false},
		"5-kernel8": {"5", below("b66c4c16/", with(piOS(), map[string]string{"kernel_2712.img": ""})), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/kernel8.img"}, Initramfs: File{Name: "b66c4c16/initramfs8"},
			DTB: File{Name: "b66c4c16/bcm2712-rpi-5-b.dtb"}, Overlays: vc4of5,
		}, Setup{EEPROM: day("2023-09-28")}, false},
		"500-bare": {"500", piOS(), Result{
			Kernel: File{Name: "kernel_2712.img"}, Initramfs: File{Name: "initramfs_2712"}, DTB: File{Name: "bcm2712-rpi-500.dtb"},
			Overlays: []File{{Name: "overlays/vc4-kms-v3d-pi5.dtbo"}},
		}, Setup{}, false},
		"cm5-pios": {"cm5", below("b66c4c16/", piOS()), Result{
			Prefix: "b66c4c16/", Kernel: File{Name: "b66c4c16/kernel_2712.img"}, Initramfs: File{Name: "b66c4c16/initramfs_2712"},
			DTB: File{Name: "b66c4c16/bcm2712-rpi-cm5-cm5io.dtb"}, Overlays: vc4of5,
		}, Setup{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lan{files: c.files, offers: both()}
				c.setup.Model = c.model
				res, err := playSetup(t, l, c.setup)
				if err != nil {
					t.Fatalf("%v\n%s", err, trace(res.Events))
				}
				golden(t, name+".rrq", strings.Join(l.rrqs, "\n")+"\n")
				if res.Prefix != c.want.Prefix || res.Kernel.Name != c.want.Kernel.Name ||
					res.Initramfs.Name != c.want.Initramfs.Name || res.DTB.Name != c.want.DTB.Name {
					t.Errorf("got %q %q %q %q", res.Prefix, res.Kernel.Name, res.Initramfs.Name, res.DTB.Name)
				}
				same := func(a, b File) bool { return a.Name == b.Name }
				if !slices.EqualFunc(res.Overlays, c.want.Overlays, same) {
					t.Errorf("overlays: %d", len(res.Overlays))
				}
				for _, f := range []File{res.Kernel, res.Initramfs, res.DTB} {
					if !bytes.Equal(f.Data, c.files[f.Name]) {
						t.Errorf("%s: %d bytes came, %d were served", f.Name, len(f.Data), len(c.files[f.Name]))
					}
				}
				if !strings.HasPrefix(res.Cmdline, "console=ttyS1,115200 root=/dev/nfs") || res.Arm64 == c.arm32 {
					t.Errorf("cmdline %q, arm64 %v", res.Cmdline, res.Arm64)
				}
				if res.Address.String() != "10.0.0.17/24" || res.Server != lanServer || res.AddressServer != lanRouter {
					t.Errorf("addresses: %v, %v, %v", res.Address, res.Server, res.AddressServer)
				}
				wantRequests := 0
				if !strings.HasPrefix(c.model, "3b") {
					wantRequests = 1
				}
				if len(l.requests) != wantRequests {
					t.Errorf("%d REQUESTs", len(l.requests))
				}
			})
		})
	}
}

// TestPorts: each file has a source port of its own, counted up from 49152 on a
// Pi 3 through all of its firmware.
func TestPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lan{files: below("b66c4c16/", debian()), offers: both()}
		if _, err := play(t, l, "3b"); err != nil {
			t.Fatal(err)
		}
		for i, p := range l.ports {
			if p != uint16(49152+i) {
				t.Fatalf("file %d came from port %d", i, p)
			}
		}
	})
}

// TestStops: where each kind of trouble ends a boot, and what is said of it.
func TestStops(t *testing.T) {
	prefix := "b66c4c16/"
	for name, c := range map[string]struct {
		lan   lan
		model string
		want  error
		text  string
		after time.Duration // 0: any
	}{
		"no server at all, 3b":    {lan{}, "3b", ErrNoOffer, "rom stopped at DHCP", 25 * time.Second},
		"no server at all, 4b":    {lan{}, "4b", ErrNoOffer, "eeprom stopped at DHCP", 45 * time.Second},
		"no address":              {lan{offers: both()[1:]}, "3b+", ErrNoAddress, "rom stopped at DHCP", 25 * time.Second},
		"no boot server, 3b":      {lan{offers: both()[:1]}, "3b", ErrNoServer, "does it know the board", 25 * time.Second},
		"siaddr alone serves a 4": {lan{offers: both()[:1]}, "4b", nil, "eeprom stopped", 0},
		"NAK":                     {lan{offers: both(), nak: true}, "4b", ErrNAK, "eeprom stopped at DHCP: the address server said NAK", 0},
		"foreign xid":             {lan{offers: []offer{{from: lanServer, yiaddr: lanBoard, option66: "10.0.0.1", xid: 7}}}, "3b", ErrNoOffer, "", 0},
		"no bootcode.bin":         {lan{offers: both()}, "3b", ErrMissing, `rom stopped at reading bootcode.bin: "bootcode.bin": TFTP error 1`, 0},
		"no start.elf":            {lan{offers: both(), files: map[string][]byte{"bootcode.bin": {1}}}, "3b", nil, `"start.elf" not found under b66c4c16/ nor bare`, 0},
		"no start4.elf":           {lan{offers: both()}, "4b", nil, `"start4.elf" not found under b66c4c16/ nor bare`, 0},
		"no kernel": {
			lan{offers: both(), files: below(prefix, with(debian(), map[string]string{"vmlinuz-6.1": ""}))},
			"4b", nil, "no kernel: none of vmlinuz-6.1 is there", 0,
		},
		"no device tree": {
			lan{offers: both(), files: below(prefix, with(debian(), map[string]string{"bcm2837-rpi-3-b.dtb": ""}))},
			"3b", nil, "none of bcm2837-rpi-3-b.dtb, bcm2710-rpi-3-b.dtb is there", 0,
		},
		"a kernel of 34 MB on a Pi 3": {
			lan{offers: both(), files: below(prefix, with(debian(), map[string]string{"vmlinuz-6.1": string(make([]byte, 512*65535))}))},
			"3b", ErrTooLarge, "start.elf stopped at reading the kernel", 0,
		},
		"no tsize": {
			lan{offers: both(), files: below(prefix, debian()), noOptions: true},
			"3b+", nil, "not found under b66c4c16/ nor bare", 0,
		},
		"silence instead of a file": {
			lan{offers: both(), files: below(prefix, debian()), silent: map[string]bool{"bootsig.bin": true}},
			"3b", ErrSilence, "rom stopped at asking for bootsig.bin", 0,
		},
		"silence, 4b": {
			lan{offers: both(), files: below(prefix, debian()), silent: map[string]bool{prefix + "config.txt": true}},
			"4b", ErrSilence, "eeprom stopped at reading config.txt", 0,
		},
		"option 66 names nobody": {
			lan{offers: []offer{{from: lanRouter, yiaddr: lanBoard, option66: "10.0.0.99"}}}, "3b+", nil, "no answer to ARP", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := c.lan
				start := time.Now()
				res, err := play(t, &l, c.model)
				stop, ok := errors.AsType[*StopError](err)
				if !ok || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(stop.Error(), c.text) {
					t.Fatalf("got %v\n%s", err, trace(res.Events))
				}
				if took := time.Since(start).Round(time.Second); c.after != 0 && took != c.after {
					t.Errorf("gave up after %v", took)
				}
				if last := res.Events[len(res.Events)-1]; last.Kind != KindStop || last.Text != stop.Error() {
					t.Errorf("the last event is %+v", last)
				}
			})
		})
	}
}

// TestLoss: lost packets cost time and nothing else.
func TestLoss(t *testing.T) {
	for _, model := range []string{"3b+", "4b"} {
		t.Run(model, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lan{files: below("b66c4c16/", debian()), offers: both(), lose: func(n int) bool { return n%53 == 20 }}
				res, err := play(t, l, model)
				if err != nil {
					t.Fatalf("%v\n%s", err, trace(res.Events))
				}
				if !bytes.Equal(res.Kernel.Data, l.files["b66c4c16/vmlinuz-6.1"]) {
					t.Error("the kernel came damaged")
				}
			})
		})
	}
}

// TestWhomToFollow: the server that each generation takes its files from.
func TestWhomToFollow(t *testing.T) {
	router := offer{from: lanRouter, yiaddr: lanBoard, siaddr: lanRouter}
	router66 := router
	router66.option66 = "10.0.0.254"
	proxy := both()[1]
	proxy43 := offer{from: lanServer, option43: menu(bootText)}
	for name, c := range map[string]struct {
		offers []offer
		pi3    string
		pi4    string
	}{
		"router, then proxy":                   {[]offer{router, proxy}, "10.0.0.1", "10.0.0.1"},
		"proxy, then router":                   {[]offer{proxy, router}, "10.0.0.1", "10.0.0.1"},
		"proxy without option 66":              {[]offer{proxy43, router}, "10.0.0.1", "10.0.0.1"},
		"the router's option 66 came last":     {[]offer{proxy, router66}, "10.0.0.254", "10.0.0.254"},
		"the router's option 66 came first":    {[]offer{router66, proxy}, "10.0.0.254", "10.0.0.254"},
		"siaddr counts on a Pi 4, at the end":  {[]offer{router}, "", "10.0.0.254"},
		"one server for both":                  {[]offer{router66}, "10.0.0.254", "10.0.0.254"},
		"option 66 is a name: it is no use":    {[]offer{{from: lanRouter, yiaddr: lanBoard, option66: "tftp.lan"}}, "", ""},
		"option 43 without the text is no use": {[]offer{{from: lanRouter, yiaddr: lanBoard, option43: menu("PXE boot")}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for model, want := range map[string]string{"3b+": c.pi3, "4b": c.pi4} {
				synctest.Test(t, func(t *testing.T) {
					res, err := play(t, &lan{offers: c.offers}, model)
					got := ""
					if res.Server.IsValid() {
						got = res.Server.String()
					}
					if got != want {
						t.Errorf("%s goes to %q, want %q (%v)\n%s", model, got, want, err, trace(res.Events))
					}
				})
				synctest.Test(t, func(t *testing.T) { surveyed(t, c.offers, model, want) })
			}
		})
	}
}

// surveyed wants a survey to say of a model what its boot does.
func surveyed(t *testing.T, offers []offer, model, want string) {
	t.Helper()
	l := &lan{offers: offers}
	ctx, link, stop := l.start(t)
	defer stop()
	boards := []Board{
		testBoard(t, "3b", "b66c4c16", "02:00:00:00:00:17", 0), testBoard(t, model, "b66c4c16", "02:00:00:00:00:17", 0),
	}
	heard, err := Survey(ctx, link, boards, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if heard[1].Server.IsValid() {
		got = heard[1].Server.String()
	}
	if got != want || len(heard) != 2 || len(heard[1].Offers) != len(offers) || heard[1].Model.Name != model {
		t.Errorf("a survey says that a %s goes to %q, want %q: %+v", model, got, want, heard)
	}
	if len(l.requests) > 0 {
		t.Error("a survey takes a lease")
	}
}

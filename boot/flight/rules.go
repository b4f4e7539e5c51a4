package flight

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

// rules are all verdicts, in the order in which they are tried: how far the boot
// came first, so that each may take for granted that those above did not speak.
func rules() []rule {
	return []rule{
		{"good", Well, false, good},
		{"stopped", Bad, false, stopped},
		{"panic", Bad, false, kernelPanic},
		{"not-reported", Bad, true, notReported},
		{"running", Well, false, running},
		{"nfs-blocked", Bad, true, nfsBlocked},
		{"no-init", Bad, true, noInit},
		{"mount-refused", Bad, false, mountRefused},
		{"boot-set", Bad, false, brokenSet},
		{"block-counter", Bad, false, blockCounter},
		{"slow-file", Bad, false, slowFile},
		{"no-initramfs", Bad, true, noInitramfs},
		{"nfs-unreached", Bad, true, nfsUnreached},
		{"kernel-silent", Bad, true, kernelSilent},
		{"no-kernel", Bad, true, noKernel},
		{"no-firmware", Bad, true, noFirmware},
		{"no-device-tree", Bad, true, noDeviceTree},
		{"file-lost", Bad, true, fileLost},
		{"file-broken", Bad, true, fileBroken},
		{"stopped-reading", Bad, true, stoppedReading},
		{"unanswered", Bad, false, unanswered},
		{"option-66", Bad, true, option66},
		{"other-boot-server", Bad, true, otherBootServer},
		{"nothing-heard", Bad, true, nothingHeard},
		{"pi3-rom", Bad, true, pi3ROM},
		{"no-files", Bad, true, noFiles},
	}
}

func good(f *facts) string {
	if f.good == nil {
		return ""
	}
	text := "good: up after " + f.since(f.good)
	if f.running != nil {
		text = fmt.Sprintf("good: user space after %s, up after %s", f.since(f.running), f.since(f.good))
	}
	if f.prepared != nil && f.prepared.LastGood {
		text += ", on the boot files of its last good boot: " + f.prepared.Problem
	}
	return text
}

func stopped(f *facts) string {
	if f.stopped == nil {
		return ""
	}
	return "an admin cut the board off (rubus device stop or reset)"
}

func kernelPanic(f *facts) string {
	if f.running != nil {
		return ""
	}
	for _, e := range f.console {
		if strings.Contains(e.Text, "Kernel panic") {
			return "the kernel panicked: " + e.Text
		}
	}
	return ""
}

func notReported(f *facts) string {
	if f.running == nil || f.prepared == nil || !f.prepared.Reports {
		return ""
	}
	if f.t.Over {
		return "user space ran, and the board started anew before multi-user.target was reached: look at its console, or at \"journalctl -b -1\" on it"
	}
	return "user space runs, but multi-user.target was not reached in 10 minutes: see \"systemctl list-jobs\" and \"systemctl --failed\" on the board"
}

func running(f *facts) string {
	switch {
	case f.running == nil:
		return ""
	case f.prepared != nil && f.prepared.Reports: // not judged yet
		return ""
	}
	return fmt.Sprintf("user space runs after %s; the image has no rubus-booted.service to say that all of it came up", f.since(f.running))
}

func nfsBlocked(f *facts) string {
	if f.mounted == nil || f.called != nil {
		return ""
	}
	return "its MOUNT was answered and no NFS call followed: is TCP port 2049 open from the board to this server, and does its cmdline.txt say vers=3?"
}

func noInit(f *facts) string {
	if f.mounted == nil {
		return ""
	}
	return "it mounted its root and never read an init: look at its console for what the kernel or the initramfs says, and at /sbin/init in its root"
}

func mountRefused(f *facts) string {
	if f.mounted != nil {
		return ""
	}
	for _, e := range f.refused {
		if strings.HasPrefix(e.Text, "MOUNT") {
			return "its MOUNT was refused: " + e.Text
		}
	}
	return ""
}

func brokenSet(f *facts) string {
	if f.blocked == nil || f.kernel != nil {
		return ""
	}
	return "it is given no boot files: " + f.blocked.Text
}

// isCut says that a transfer broke off.
func isCut(e Event) bool { return e.Outcome == TimedOut || e.Outcome == GaveUp }

// cut is the last transfer that broke off, unless the file was read after all.
func (f *facts) cut() *Event {
	for i := len(f.files) - 1; i >= 0; i-- {
		e := &f.files[i]
		switch {
		case isCut(*e) && !f.wholeAfter(e.Name, e.Time):
			return e
		case e.Outcome == Whole:
			return nil
		}
	}
	return nil
}

func (f *facts) wholeAfter(name string, t time.Time) bool {
	return slices.ContainsFunc(f.files, func(e Event) bool {
		return e.Name == name && e.Outcome == Whole && !e.Time.Before(t)
	})
}

func blockCounter(f *facts) string {
	e := f.cut()
	if e == nil || e.Block == 0 {
		return ""
	}
	limit := 65535 * int64(e.Block)
	// The last blocks before the end may have been lost.
	if e.Size < limit || e.Bytes < limit-limit/50 {
		return ""
	}
	begin := fmt.Sprintf("%s has %s, and this firmware counts 65,535 blocks of %d bytes, %s", e.Name, megabytes(e.Size), e.Block, megabytes(limit))
	if f.stage() == "eeprom" && e.Block > 1024 {
		return begin + ": the bootloader is older than 2025-09-23, update it (rpi-eeprom-update on the board) or make the file smaller"
	}
	return begin + ": make the file smaller (MODULES=dep or list for an initramfs)"
}

// fileTime is the time that EEPROMs give one file (TFTP_FILE_TIMEOUT), less
// what the asking takes.
const fileTime = 25 * time.Second

func slowFile(f *facts) string {
	e := f.cut()
	if e == nil || e.Took < fileTime || e.Bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%s did not get through in the 30 s that firmware gives a file (%s of %s, %d packets sent again): look at cable and switch port, or make the file smaller",
		e.Name, megabytes(e.Bytes), megabytes(e.Size), e.Retries)
}

func isInitramfs(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "initr") // initramfs8, initrd.img
}

func noInitramfs(f *facts) string {
	names := f.missing(isInitramfs)
	if f.kernel == nil || len(names) == 0 || f.got(isInitramfs) {
		return ""
	}
	return fmt.Sprintf("the kernel started without its initramfs, %s is missing, and never asked for its root: run update-initramfs in the image, or take the initramfs out of config.txt", words(names))
}

func nfsUnreached(f *facts) string {
	if f.kernel == nil || f.after == nil || f.after.Kind != Heard {
		return ""
	}
	return fmt.Sprintf("the kernel got an address (%s from %s) and never asked for its root: are TCP ports 111, 2049 and 20048 open from the board to this server? (rubus doctor --firewall)",
		f.after.Address, f.after.Server)
}

func kernelSilent(f *facts) string {
	if f.kernel == nil {
		return ""
	}
	return f.kernel.Name + " was read whole and nothing came after it: it is no kernel for this board, or neither it nor the initramfs has the driver of the network card; look at the console"
}

func noKernel(f *facts) string {
	names := f.missing(f.isKernel)
	if len(names) == 0 || f.got(f.isKernel) {
		return ""
	}
	none := "which is not there"
	if len(names) > 1 {
		none = "and none of them is there"
	}
	return fmt.Sprintf("%s asked for %s, %s: put a kernel for this model into /boot/firmware of its image, or name it with kernel= in config.txt", f.model(), words(names), none)
}

func noFirmware(f *facts) string {
	isFirmware := func(n string) bool {
		return strings.HasPrefix(n, "start") && strings.HasSuffix(n, ".elf") || n == "bootcode.bin" || n == "config.txt"
	}
	names := f.missing(isFirmware)
	if len(names) == 0 || f.got(isFirmware) {
		return ""
	}
	return fmt.Sprintf("%s asked for %s and found no firmware for its model in /boot/firmware: install raspi-firmware in the image", f.model(), words(names))
}

func noDeviceTree(f *facts) string {
	isTree := func(n string) bool { return strings.HasSuffix(n, ".dtb") && !strings.Contains(n, "/") }
	names := f.missing(isTree)
	if len(names) == 0 || f.got(isTree) {
		return ""
	}
	return fmt.Sprintf("%s asked for its device tree, %s, and it is not there: the image's kernel package is for other models", f.model(), words(names))
}

func fileLost(f *facts) string {
	e := f.cut()
	if e == nil {
		return ""
	}
	return fmt.Sprintf("the board went away while it read %s (%s of %s): power, cable, or a reset", e.Name, megabytes(e.Bytes), megabytes(e.Size))
}

func fileBroken(f *facts) string {
	for i := len(f.files) - 1; i >= 0; i-- {
		if e := f.files[i]; e.Outcome == Broken {
			return fmt.Sprintf("%s could not be served: %s", e.Name, e.Text)
		}
	}
	return ""
}

func stoppedReading(f *facts) string {
	if len(f.files) == 0 {
		return ""
	}
	last := f.files[len(f.files)-1]
	for i := len(f.files) - 1; i >= 0; i-- {
		if f.files[i].Outcome == Whole {
			last = f.files[i]
			break
		}
	}
	if last.Name == "bootcode.bin" {
		return "it read bootcode.bin and did not come back with a DISCOVER of its own: is the file whole and Raspberry Pi's?"
	}
	return fmt.Sprintf("it read its files up to %s and stopped: an attached screen or BOOT_UART=1 shows what its firmware says", last.Name)
}

func unanswered(f *facts) string {
	if len(f.unanswered) == 0 || len(f.offered) > 0 || len(f.files) > 0 {
		return ""
	}
	return "it was not answered: " + f.unanswered[len(f.unanswered)-1].Text
}

// ours says whether an address is one that we answered from.
func (f *facts) ours(a string) bool {
	addr, err := netip.ParseAddr(strings.TrimSpace(a))
	return err == nil && slices.ContainsFunc(f.offered, func(e Event) bool { return e.Server == addr })
}

func (f *facts) ourAddress() string {
	if len(f.offered) == 0 {
		return "this server"
	}
	return f.offered[len(f.offered)-1].Server.String()
}

func option66(f *facts) string {
	if len(f.files) > 0 {
		return ""
	}
	for _, e := range f.heard {
		if e.BootServer != "" && !f.ours(e.BootServer) {
			return fmt.Sprintf("the option 66 of the DHCP server %s won: it sends boards to %q for their files; take it out there, or set it to %s", e.Server, e.BootServer, f.ourAddress())
		}
	}
	return ""
}

func otherBootServer(f *facts) string {
	if len(f.files) > 0 {
		return ""
	}
	for _, e := range f.heard {
		if e.PiBoot {
			return fmt.Sprintf("another boot server, %s, answers Pis on this network, and the board went there: switch it off", e.Server)
		}
	}
	return ""
}

// nothingHeard does not say that nobody offered an address: firmware asks for
// unicast answers, and a switch keeps those from us.
func nothingHeard(f *facts) string {
	if len(f.files) > 0 || len(f.discovers) == 0 || f.stage() == "pi3-rom" {
		return ""
	}
	if slices.ContainsFunc(slices.Concat(f.heard, f.offered), func(e Event) bool { return e.Address.IsValid() }) {
		return ""
	}
	return fmt.Sprintf("it was offered the files of %s and asked for none: has the DHCP server an address for it, does its option 66 name another machine, is UDP port 69 open here? \"rubus doctor\" asks the network as a Pi does", f.ourAddress())
}

func pi3ROM(f *facts) string {
	if len(f.files) > 0 || f.stage() != "pi3-rom" {
		return ""
	}
	return fmt.Sprintf("the Pi 3's boot ROM asked %s and took no answer, as it does on quiet or slow networks: an SD card with only bootcode.bin helps (rubus sdcard --model 3b --bootcode)", times(len(f.discovers)))
}

func noFiles(f *facts) string {
	if len(f.discovers) == 0 || len(f.files) > 0 {
		return ""
	}
	return fmt.Sprintf("it was offered an address and the files of %s, and asked for none: is UDP port 69 open from the board to this server? (rubus doctor --firewall)", f.ourAddress())
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// words is "a", "a and b", "a, b and c".
func words(w []string) string {
	if len(w) < 2 {
		return strings.Join(w, "")
	}
	return strings.Join(w[:len(w)-1], ", ") + " and " + w[len(w)-1]
}

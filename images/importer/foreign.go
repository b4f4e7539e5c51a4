package importer

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"rubus/images"
)

// programs are looked at to see what processor a root is for: one of them is in every
// Debian, Ubuntu and Raspberry Pi OS, and none of them is a link in those that have it.
func programs() []string {
	return []string{"usr/lib/systemd/systemd", "lib/systemd/systemd", "usr/bin/dash", "bin/dash", "usr/bin/bash", "bin/bash"}
}

// foreign is an error when the root's programs are for processors that no Raspberry Pi has.
// A root without programs is nobody's.
func (s *stack) foreign() error {
	view := images.Merged(s.dirs())
	for _, name := range programs() {
		machine, ok := machineOf(view, name)
		switch {
		case !ok:
		case machine == elf.EM_AARCH64 || machine == elf.EM_ARM:
			return nil
		default:
			return fmt.Errorf("it is for another processor: /%s is a program for %s, and Raspberry Pis run those for arm64 and armhf", name, processor(machine))
		}
	}
	return nil
}

// container is an error when what was imported is a container image as "docker save" and tools for OCI
// layouts pack it: its files are layers, and not those of a root.
func (s *stack) container() error {
	if len(s.base) > 0 || len(s.built) == 0 {
		return nil
	}
	top := make(map[string]bool)
	for _, e := range s.built[0].Entries {
		name, _, _ := strings.Cut(e.Path, "/")
		top[name] = true
	}
	switch {
	case top["etc"] || top["usr"] || top["bin"]:
		return nil
	case top["manifest.json"]:
		return errors.New("it is a container image in an archive, and no root file system: say docker-archive:FILE")
	case top["oci-layout"]:
		return errors.New("it is a layout of container images in an archive, and no root file system: unpack it and say oci:DIR")
	}
	return nil
}

// machineOf reads whose program the file is from the head of an ELF file (System V ABI, chapter
// 4, "ELF Header").
func machineOf(view fs.FS, name string) (elf.Machine, bool) {
	f, err := view.Open(name)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return 0, false
	}
	head := make([]byte, 20) // e_ident, e_type, e_machine
	if _, err := io.ReadFull(f, head); err != nil || string(head[:4]) != elf.ELFMAG {
		return 0, false
	}
	low, high := head[18], head[19]
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		low, high = high, low
	}
	return elf.Machine(uint16(low) | uint16(high)<<8), true
}

// processor names a machine as distributions name their ports.
func processor(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_386:
		return "i386"
	case elf.EM_RISCV:
		return "riscv64"
	}
	return m.String()
}

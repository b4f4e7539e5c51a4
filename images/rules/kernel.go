package rules

import (
	"errors"
	"io"
	"path"

	"rubus/images/layered"
)

// kernelNames are the names that kernels of boot directories have: the firmware's own, and those of
// Debian and Ubuntu. Other programs that begin as a kernel does, as U-Boot, are not touched.
func kernelNames() []string { return []string{"kernel*.img", "vmlinuz", "vmlinuz-*", "Image"} }

// What is worth packing, and what is still packed in memory, in bytes.
const (
	minKernel = 1 << 20
	maxKernel = 256 << 20
)

// kernels packs the kernels in directories that are plain images for 64-bit ARM. Those for 32 bits
// unpack themselves, and the firmware takes no others.
func (m *planner) kernels(dirs []string) error {
	for _, dir := range dirs {
		list, err := m.t.names(dir)
		if err != nil {
			return err
		}
		for _, n := range list {
			if !isKernelName(path.Base(n.Path)) || !n.IsRegular() || n.Stat.Size < minKernel || n.Stat.Size > maxKernel {
				continue
			}
			plain, err := m.isImage(n)
			if err == nil && plain {
				err = m.change(Change{Path: "/" + n.Path, Kind: Gzip})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func isKernelName(name string) bool {
	for _, p := range kernelNames() {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return false
}

// isImage looks for the header of a 64-bit kernel: Linux' Documentation/arch/arm64/booting.rst.
func (m *planner) isImage(n *layered.Node) (bool, error) {
	f, err := m.t.v.Open(n)
	if err != nil {
		return false, err
	}
	defer f.Close()
	const magic, at = "ARM\x64", 56
	b := make([]byte, len(magic))
	if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return string(b) == magic, nil
}

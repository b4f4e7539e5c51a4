package e2e

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/images"
)

// Sizes to which kernel and initramfs are cut: nothing runs them here, and the
// firmware fetches every byte.
const (
	kernelBytes    = 256 << 10
	initramfsBytes = 64 << 10
)

// goldenTree makes a small root in a directory: the real firmware files of Debian's, and of
// each kind of object something.
func goldenTree(t *testing.T, root string) string {
	t.Helper()
	boot := filepath.Join(root, "boot/firmware")
	for _, d := range []string{"boot/firmware", "sbin", "etc", "srv/data/deep", "home", "var/log", "dev", "proc", "sys", "tmp", "root"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	from := filepath.Join(shared.Golden, "boot/firmware")
	for _, name := range []string{
		"bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "config.txt", "cmdline.txt",
		"bcm2711-rpi-4-b.dtb", "bcm2837-rpi-3-b.dtb", "bcm2837-rpi-3-b-plus.dtb",
	} {
		copyPart(t, filepath.Join(from, name), filepath.Join(boot, name), 64<<20)
	}
	for pattern, limit := range map[string]int64{"vmlinuz-*": kernelBytes, "initrd.img-*": initramfsBytes} {
		found, err := filepath.Glob(filepath.Join(from, pattern))
		must(t, err)
		if len(found) == 0 {
			t.Fatalf("the golden root has no %s", pattern)
		}
		copyPart(t, found[0], filepath.Join(boot, filepath.Base(found[0])), limit)
	}
	put := func(name, text string, mode os.FileMode) {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(text), mode))
	}
	put("sbin/init", "#!/bin/sh\n", 0o755)
	put("etc/golden", "golden\n", 0o644)
	put("etc/motd", "Welcome to the golden image.\n", 0o644)
	put("srv/data/keep", "as it was\n", 0o644)
	put("srv/data/change", "golden line\n", 0o644)
	put("srv/data/delete", "not for long\n", 0o644)
	put("srv/data/deep/large", strings.Repeat("0123456789abcdef", 1<<17), 0o644)
	must(t, os.Link(filepath.Join(root, "srv/data/keep"), filepath.Join(root, "srv/data/keep-too")))
	must(t, os.Symlink("hostname", filepath.Join(root, "etc/name")))
	return root
}

// golden imports a golden tree as the image "lab".
func (l *lab) golden() images.Version {
	l.t.Helper()
	return l.image("lab", goldenTree(l.t, l.t.TempDir()), nil)
}

// goldenNext imports a tree with another /etc/golden as the next version.
func (l *lab) goldenNext() images.Version {
	l.t.Helper()
	tree := goldenTree(l.t, l.t.TempDir())
	must(l.t, os.WriteFile(filepath.Join(tree, "etc/golden"), []byte("newer\n"), 0o644))
	return l.image("lab", tree, nil)
}

func copyPart(t *testing.T, from, to string, limit int64) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.Create(to)
	must(t, err)
	_, err = io.Copy(out, io.LimitReader(in, limit))
	must(t, err)
	must(t, out.Close())
}

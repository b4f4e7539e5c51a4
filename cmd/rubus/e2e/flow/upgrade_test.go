package flow

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rubus/boot/fakepi"
)

// A kernel package that dpkg installs inside a board's root, hooks and initramfs
// included, is what that board boots next; its neighbour boots the old one.
func TestKernelUpgrade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.useGolden()
	s.router(onePool)
	s.devices(deviceLines("serial: "+serialA, "serial: "+serialB))
	s.serveWith(shared.Plain)
	a, b := s.newBoard("3b", serialA, macA), s.newBoard("4b", serialB, macB)
	before := a.boot("10.77.0.20")
	old := strings.TrimPrefix(filepath.Base(before.Kernel.Name), "vmlinuz-")
	a.off()

	deb, next := nextKernel(t)
	if next == old {
		t.Fatalf("the package brings the kernel %s that is there already", next)
	}
	root := s.root(serialA, 1)
	data, err := os.ReadFile(deb)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "root/next.deb"), data, 0o644))
	cmd := exec.CommandContext(t.Context(), filepath.Join(shared.Scripts, "in-root"), root,
		"sh", "-ec", "dpkg -i /root/next.deb && rm /root/next.deb")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg in the board's root: %v\n%s", err, out)
	}
	// The other hook, raspi-firmware's, says nothing but fills /boot/firmware.
	if !strings.Contains(string(out), "update-initramfs: Generating") {
		t.Errorf("dpkg did not run the hook of initramfs-tools:\n%s", out)
	}

	after := a.fetch()
	firmware := filepath.Join(root, "boot/firmware")
	fetched(t, after.Kernel, filepath.Join(firmware, "vmlinuz-"+next))
	fetched(t, after.Initramfs, filepath.Join(firmware, "initrd.img-"+next))
	if _, err := os.Stat(filepath.Join(root, "lib/modules", next)); err != nil {
		t.Errorf("the board has no modules of its new kernel: %v", err)
	}
	if got, want := nfsroot.FindString(after.Cmdline), nfsroot.FindString(before.Cmdline); got != want || want == "" {
		t.Errorf("the board's root is %q and was %q", got, want)
	}

	golden := filepath.Join(shared.Golden, "boot/firmware")
	neighbour := b.fetch()
	fetched(t, neighbour.Kernel, packedKernel(t, s.state, "vmlinuz-"+old))
	fetched(t, neighbour.Initramfs, filepath.Join(golden, "initrd.img-"+old))
	if _, err := os.Stat(filepath.Join(s.root(serialB, 1), "lib/modules", next)); err == nil {
		t.Error("the neighbour has the modules of the new kernel")
	}
	s.must("image", "verify", "lab")
}

// nextKernel is the second kernel package that scripts/golden keeps, and the
// release it brings.
func nextKernel(t *testing.T) (deb, release string) {
	t.Helper()
	if deb = os.Getenv("RUBUS_KERNEL_DEB"); deb == "" {
		deb = filepath.Join(shared.Golden, "../debs/linux-image-next.deb")
	}
	b, err := os.ReadFile(strings.TrimSuffix(deb, ".deb") + ".release")
	must(t, err)
	return deb, strings.TrimSpace(string(b))
}

// fetched fails the test unless a file that firmware got is the one at a path.
func fetched(t *testing.T, got fakepi.File, path string) {
	t.Helper()
	if filepath.Base(got.Name) != filepath.Base(path) {
		t.Errorf("firmware fetched %q, not %q", got.Name, filepath.Base(path))
		return
	}
	sum := sha256.Sum256(got.Data)
	if hex.EncodeToString(sum[:]) != sha(t, path) {
		t.Errorf("what firmware fetched as %q is not %q", got.Name, path)
	}
}

// packedKernel is the golden root's kernel as the rules packed it for the boards of an image.
func packedKernel(t *testing.T, state, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(state, "images/layers/*/tree/boot/firmware", name))
	must(t, err)
	for _, p := range found {
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			continue // as it was imported
		}
		h := sha256.New()
		_, err = io.Copy(h, z)
		must(t, err)
		if got, want := hex.EncodeToString(h.Sum(nil)), sha(t, filepath.Join(shared.Golden, "boot/firmware", name)); got != want {
			t.Errorf("%s unpacks to %s, not to %s", p, got, want)
		}
		return p
	}
	t.Fatalf("no packed %s among %v", name, found)
	return ""
}

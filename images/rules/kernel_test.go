package rules_test

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A kernel that is packed is the same kernel, and the only thing in its directory that changed.
func TestKernelIsPacked(t *testing.T) {
	for _, r := range roots() {
		if r.name != "debian-bookworm" {
			continue
		}
		root := r.tree.write(t)
		const name = "boot/firmware/vmlinuz-6.1.0-56-arm64"
		must(t, os.Chmod(filepath.Join(root, name), 0o750))
		must(t, os.Chown(filepath.Join(root, name), 7, 8))
		top := imported(t, root)[0]
		list, err := os.ReadDir(filepath.Join(top, "boot/firmware"))
		if err != nil || len(list) != 1 {
			t.Fatalf("in the layer there are %v, %v", list, err)
		}
		f, err := os.Open(filepath.Join(top, name))
		must(t, err)
		defer f.Close()
		st, err := f.Stat()
		must(t, err)
		z, err := gzip.NewReader(f)
		must(t, err)
		b, err := io.ReadAll(z)
		if err != nil || string(b) != kernel() || st.Size() > int64(len(b))/2 {
			t.Errorf("%d bytes unpack to %d, %v", st.Size(), len(b), err)
		}
		if st.Mode() != 0o750 {
			t.Errorf("its mode is %v", st.Mode())
		}
		return
	}
	t.Fatal("no such root")
}

package oci

import (
	"os"
	"path/filepath"
	"testing"
)

// On a file system whose files must have names, vfat or NFS, they lie in the stage's
// directory until they are published; of a stage that died the next one removes it.
func TestNamedStage(t *testing.T) {
	dir := t.TempDir()
	for i, target := range []string{"first", "second", "third"} {
		s, err := newStage(filepath.Join(dir, target), Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.named = true
		if err := s.write("image/blobs/x", []byte(target)); err != nil {
			t.Fatal(err)
		}
		if i == 1 { // it dies: the kernel lets go of its lock, nothing else
			s.dir = ""
			s.close()
			continue
		}
		if err := s.publish("image", filepath.Join(dir, target), false); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, target, "blobs/x")); err != nil || string(b) != target {
			t.Errorf("%q, %v", b, err)
		}
		if err := s.publish("image", filepath.Join(dir, target), false); err == nil {
			t.Error("what was there was replaced")
		}
		s.close()
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("there are %v, %v", list, err)
	}
}

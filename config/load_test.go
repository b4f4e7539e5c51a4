package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A pipe is read to its end, and nobody waits for one that says nothing.
func TestPipe(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(name); err == nil || !strings.Contains(err.Error(), "a pipe that nobody writes to") {
		t.Errorf("without a writer: %v", err)
	}
	w, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadFile(name, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("its writer says nothing: %v", err)
	}
	if _, err := w.WriteString("version: 1\n"); err != nil {
		t.Fatal(err)
	}
	// Whoever reads holds it: what was written is not gone with the writer.
	r, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Close()
	if f, err := LoadFile(name); err != nil || string(f.Data) != "version: 1\n" {
		t.Errorf("it says %q, %v", f.Data, err)
	}
}

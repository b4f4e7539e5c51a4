package control

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestListen(t *testing.T) {
	log := &syncBuffer{}
	l := slog.New(slog.NewTextHandler(log, nil))
	mode := func(t *testing.T, path string) (fs.FileMode, uint32) {
		t.Helper()
		fi, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Mode(), fi.Sys().(*syscall.Stat_t).Gid
	}
	t.Run("with the group", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "control.sock")
		ln, err := Listen(path, "daemon", l)
		if err != nil {
			t.Fatal(err)
		}
		if m, gid := mode(t, path); m != fs.ModeSocket|0o660 || gid != 1 {
			t.Errorf("mode %v, group %d", m, gid)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(left) != 1 {
			t.Errorf("beside the socket: %v, %v", left, err)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Close: %v", err)
		}
	})
	t.Run("without the group, over a dead socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "control.sock")
		for range 2 {
			ln, err := Listen(path, "no-such-group", l)
			if err != nil {
				t.Fatal(err)
			}
			ln.(*listener).UnixListener.Close() // as a killed daemon leaves it
			if m, _ := mode(t, path); m != fs.ModeSocket|0o600 {
				t.Errorf("mode %v", m)
			}
		}
		if !strings.Contains(log.String(), "no-such-group") {
			t.Errorf("the log does not say that the group is missing: %s", log)
		}
	})
	t.Run("over a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "control.sock")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(path, "", l); err == nil {
			t.Error("a file was replaced by the socket")
		}
	})
	t.Run("long path", func(t *testing.T) {
		if _, err := Listen("/"+strings.Repeat("x", 107), "", l); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("got %v", err)
		}
	})
}

// TestLock wants a second daemon to be refused with the first one's pid, and a
// killed daemon to leave no lock.
func TestLock(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if d := os.Getenv("RUBUS_TEST_LOCK"); d != "" {
		if _, err := Lock(d); err != nil {
			t.Fatal(err)
		}
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLock$")
	cmd.Env = append(os.Environ(), "RUBUS_TEST_LOCK="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("locked"))); err != nil {
		t.Fatal(err)
	}
	_, err = Lock(other, dir)
	var held *LockedError
	if !errors.As(err, &held) || held.PID != cmd.Process.Pid {
		t.Errorf("the second lock: %v; want process %d", err, cmd.Process.Pid)
	}
	// What it had locked before it was refused is free again.
	release, err := Lock(other)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if release, err = Lock(dir, other); err != nil {
		t.Fatalf("after kill -9: %v", err)
	}
	release()
}

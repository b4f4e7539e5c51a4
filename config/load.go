package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// Paths says where the two files are.
type Paths struct {
	// Daemon is rubus.yaml; "" when none is to be read. It may be missing.
	Daemon string
	// Devices is devices.yaml.
	Devices string
}

// Parse reads both files. It has no effects and reads nothing else. The error
// is a Problems with all that is wrong with either, rubus.yaml first.
func Parse(daemon, devices File) (*Snapshot, error) {
	dr, r := &reader{file: daemon.Name}, &reader{file: devices.Name}
	s := &Snapshot{daemonFile: daemon, devicesFile: devices, daemon: dr.daemon(daemon.Data)}
	r.sync = s.daemon.NFS.Sync
	r.resolve(r.deviceFile(devices.Data), s)
	var all Problems
	for _, p := range []Problems{dr.problems, r.problems} {
		_ = p.err()
		all = append(all, p...)
	}
	if len(all) > 0 {
		return nil, all
	}
	return s, nil
}

// ParseDaemon reads rubus.yaml alone.
func ParseDaemon(f File) (Daemon, error) {
	r := &reader{file: f.Name}
	d := r.daemon(f.Data)
	return d, r.problems.err()
}

// Load reads and parses both files. A missing devices.yaml is an error that
// errors.Is fs.ErrNotExist; a missing rubus.yaml is none.
func Load(p Paths) (*Snapshot, error) {
	daemon, err := LoadFile(p.Daemon)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	devices, err := LoadFile(p.Devices)
	if err != nil {
		return nil, err
	}
	return Parse(daemon, devices)
}

// pipeLimit is how long a pipe may take to say all: whoever reads a configuration
// cannot be waited for.
const pipeLimit = time.Minute

// LoadFile reads one file, MaxFile bytes at most. Name "" is no file. A pipe, as of a
// shell's <(...), is read as long as somebody writes, pipeLimit at most.
func LoadFile(name string) (File, error) { return loadFile(name, pipeLimit) }

func loadFile(name string, limit time.Duration) (File, error) {
	if name == "" {
		return File{}, nil
	}
	// Without O_NONBLOCK the open of a pipe waits for a writer, and nothing ends that.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return File{Name: name}, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return File{Name: name}, fmt.Errorf("reading the configuration: %w", err)
	}
	isPipe := fi.Mode()&fs.ModeNamedPipe != 0
	switch {
	case fi.IsDir():
		return File{Name: name}, fmt.Errorf("reading the configuration: %q is a directory", name)
	case isPipe:
		if err := f.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return File{Name: name}, fmt.Errorf("reading the configuration: %w", err)
		}
	}
	// One byte more than allowed lets the parser say that it is too much.
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return File{Name: name}, fmt.Errorf("reading the configuration: %w", err)
	}
	if isPipe && len(data) == 0 {
		return File{Name: name}, fmt.Errorf("reading the configuration: %q is a pipe that nobody writes to", name)
	}
	if data == nil {
		data = []byte{}
	}
	return File{Name: name, Data: data}, nil
}

// LastPaths says where a state directory keeps the last valid files.
func LastPaths(state string) Paths {
	dir := filepath.Join(state, "config")
	return Paths{Daemon: filepath.Join(dir, "rubus.yaml"), Devices: filepath.Join(dir, "devices.yaml")}
}

// SaveLast keeps the bytes that s was made of in the state directory, for
// LoadOrLast. Each file is replaced as a whole.
func SaveLast(state string, s *Snapshot) error {
	p := LastPaths(state)
	if err := os.MkdirAll(filepath.Dir(p.Devices), 0o700); err != nil {
		return fmt.Errorf("keeping the configuration: %w", err)
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{p.Daemon, s.daemonFile.Data}, {p.Devices, s.devicesFile.Data}} {
		if f.data == nil {
			if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("keeping the configuration: %w", err)
			}
			continue
		}
		if err := renameio.WriteFile(f.path, f.data, 0o600); err != nil {
			return fmt.Errorf("keeping the configuration: %w", err)
		}
	}
	return nil
}

// LoadOrLast is how a daemon starts: from the files if they are valid and
// Guard lets them pass, else from the last valid ones. refused says why the
// files are not what s was made of; err says that there is nothing to start
// from. Without devices.yaml and without a last one, it starts with no device.
//
// fallback is the state directory to look in when rubus.yaml cannot be read;
// "" means the default one. It reads files and writes none.
func LoadOrLast(p Paths, fallback string) (s *Snapshot, refused, err error) {
	s, refused = Load(p)
	state := fallback
	if state == "" {
		state = DefaultDaemon().State
		if s != nil {
			state = s.daemon.State
		} else if f, err := LoadFile(p.Daemon); err == nil {
			if d, err := ParseDaemon(f); err == nil {
				state = d.State
			}
		}
	}
	last, lastErr := Load(LastPaths(state))
	switch {
	case refused == nil && lastErr != nil:
		return s, nil, nil
	case refused == nil:
		if refused = Guard(last, s); refused == nil {
			return s, nil, nil
		}
		return last, refused, nil
	case lastErr == nil:
		return last, refused, nil
	case errors.Is(refused, fs.ErrNotExist) && errors.Is(lastErr, fs.ErrNotExist):
		daemon, err := LoadFile(p.Daemon)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, refused, err
		}
		s, err = Parse(daemon, File{Name: p.Devices})
		return s, refused, err
	}
	return nil, refused, refused
}

// DropError says that a file drops so many devices that it looks like an
// accident.
type DropError struct {
	// Had and Dropped count devices.
	Had, Dropped int
	// Empty says that no device is left.
	Empty bool
}

// Error implements error.
func (e *DropError) Error() string {
	if e.Empty {
		return fmt.Sprintf("the new devices.yaml has no device, the one in force has %d", e.Had)
	}
	return fmt.Sprintf("the new devices.yaml drops %d of %d devices", e.Dropped, e.Had)
}

// Guard compares a new snapshot with the one in force. One that has no device
// left, or drops more than half of them, is a *DropError, which an admin may
// overrule.
func Guard(inForce, next *Snapshot) error {
	e := &DropError{Had: len(inForce.devices), Empty: len(next.devices) == 0}
	for _, d := range inForce.devices {
		if next.BySerial(d.Serial) == nil {
			e.Dropped++
		}
	}
	if e.Dropped > 0 && (e.Empty || 2*e.Dropped > e.Had) {
		return e
	}
	return nil
}

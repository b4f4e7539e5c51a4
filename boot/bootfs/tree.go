package bootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree is what one request of a board may see: the files of the boot directory
// in its own root, with config.txt and the kernel command line generated. It
// is a value; making one costs nothing.
type Tree struct {
	// Root is the directory where the board's merged root is mounted.
	Root string
	// BootDir is the boot directory below Root; "" is boot/firmware.
	BootDir string
	// Files, when not nil, are served instead of those in BootDir.
	Files Files
	// ConfigLines are the device's own lines for config.txt.
	ConfigLines []string
	// Cmdline is what the kernel command line is to say.
	Cmdline CmdlineParams
	// FirmwareUpdates lets the board fetch files that change its EEPROM, such
	// as pieeprom.upd. Without it they don't exist.
	FirmwareUpdates bool
	// Warn, when not nil, is told of a board's own file that was not used as it
	// is. It is called before Open returns.
	Warn func(file, problem string)
}

// Open opens the file that the board asks for by name, without its serial. The
// error is fs.ErrNotExist, ErrRefused or ErrBadName, or one of the system. It
// blocks on the disk only.
func (t Tree) Open(name string) (*File, error) {
	clean, err := Clean(name)
	if err != nil {
		return nil, err
	}
	if !t.FirmwareUpdates && updatesFirmware(clean) {
		return nil, fmt.Errorf("%q changes the board's firmware and is not served: %w", clean, fs.ErrNotExist)
	}
	bootDir := t.BootDir
	if bootDir == "" {
		bootDir = defaultBootDir
	}
	dir, err := openDir(t.Root, bootDir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	t.BootDir = bootDir
	v := view{Tree: t, dir: dir}
	if strings.EqualFold(clean, configName) {
		return v.config(), nil
	}
	if v.isCmdline(clean) {
		return v.cmdline(clean)
	}
	return v.open(clean)
}

const (
	configName     = "config.txt"
	defaultBootDir = "boot/firmware"
)

// view is a Tree with its boot directory open.
type view struct {
	Tree
	dir int
	// listed, when not nil, remembers the names in directories.
	listed map[string][]string
}

func (v view) warn(file, problem string) {
	if v.Warn != nil {
		v.Warn(file, problem)
	}
}

// own reads one of the board's own text files whole. One that isn't there, no
// regular file or longer than MaxConfig is an error.
func (v view) own(name string) ([]byte, error) {
	clean, err := Clean(name)
	if err != nil {
		return nil, err
	}
	f, err := v.open(clean)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > MaxConfig {
		return nil, fmt.Errorf("%w: %q has %d bytes, at most %d", ErrRefused, clean, f.Size(), MaxConfig)
	}
	return io.ReadAll(f)
}

// ownConfig gives the board's config.txt as generated.
func (v view) ownConfig(warn func(file, problem string)) []byte {
	own, err := v.own(configName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		warn(configName, "the board's own file was not used: "+err.Error())
	}
	text, warnings := Config(own, v.ConfigLines)
	for _, w := range warnings {
		warn(configName, w)
	}
	return text
}

func (v view) config() *File { return generatedFile(v.ownConfig(v.warn)) }

// isCmdline says whether the board's firmware reads its command line from name.
func (v view) isCmdline(name string) bool {
	// Every file asked for costs a read of config.txt here; a cache would have
	// to know when the board writes it.
	quiet := func(string, string) {}
	for _, n := range CmdlineNames(v.ownConfig(quiet), v.own) {
		if clean, err := Clean(n); err == nil && strings.EqualFold(clean, name) {
			return true
		}
	}
	return false
}

func (v view) cmdline(name string) (*File, error) {
	own, err := v.own(name)
	if err != nil {
		v.warn(name, "the board's own file was not used: "+err.Error())
	}
	line, warnings, err := Cmdline(own, v.Cmdline)
	if err != nil {
		return nil, fmt.Errorf("making %q: %w", name, err)
	}
	for _, w := range warnings {
		v.warn(name, w)
	}
	return generatedFile([]byte(line + "\n")), nil
}

package editor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A host that cannot run an image's programs says what it lacks.
func TestEmulation(t *testing.T) {
	const good = "enabled\ninterpreter /usr/bin/qemu-arm-static\nflags: OCF\noffset 0\n"
	for name, c := range map[string]struct {
		machine, host, entry, text string
		want                       string // "": all is well
	}{
		"the host's own":         {"arm64", "arm64", "", "", ""},
		"arm on arm64":           {"arm", "arm64", "", "", ""},
		"scripts alone":          {"", "amd64", "", "", ""},
		"arm64":                  {"arm64", "amd64", "qemu-aarch64", good, ""},
		"arm":                    {"arm", "amd64", "qemu-arm", good, ""},
		"arm64 on arm":           {"arm64", "arm", "", "", "its programs are for arm64"},
		"no emulator":            {"arm64", "amd64", "", "", "install qemu-user-static"},
		"another's":              {"arm", "amd64", "qemu-aarch64", good, "its programs are for arm,"},
		"turned off":             {"arm", "amd64", "qemu-arm", "disabled\nflags: F\n", "can't run them"},
		"found in the image":     {"arm", "amd64", "qemu-arm", "enabled\nflags: OC\n", "flag F"},
		"a line that is missing": {"arm", "amd64", "qemu-arm", "enabled\n", "flag F"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.entry != "" {
				if err := os.WriteFile(filepath.Join(dir, c.entry), []byte(c.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if isForeign(c.machine, c.host) {
				err = registered(c.machine, dir)
			}
			if c.want == "" && err != nil || c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// Where 32-bit programs should run and do not, that is said.
func TestUnfit(t *testing.T) {
	for name, c := range map[string]struct {
		err           error
		machine, host string
		want          bool
	}{
		"arm on arm64":     {unix.ENOEXEC, "arm", "arm64", true},
		"another reason":   {unix.EACCES, "arm", "arm64", false},
		"a broken program": {unix.ENOEXEC, "arm64", "arm64", false},
		"emulated":         {unix.ENOEXEC, "arm", "amd64", false},
	} {
		if got := unfit(errors.Join(c.err), c.machine, c.host); (got != "") != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

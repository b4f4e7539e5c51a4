package editor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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

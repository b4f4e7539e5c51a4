package flow

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"rubus/cmd/rubus/e2e/harness"
)

// shared is set by TestMain before the first test.
var shared harness.World

// goldenState is a state directory whose only image is the golden root; it is
// imported by the test that needs it first.
var goldenState = sync.OnceValues(func() (string, error) {
	state := filepath.Join(shared.Dir, "golden")
	out, err := exec.Command(shared.Plain, "image", "import", "lab", shared.Golden, "--state", state).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("importing the golden root: %w\n%s", err, out)
	}
	return state, err
})

func TestMain(m *testing.M) {
	s := harness.Suite{Name: "flow", Parallel: 6, Programs: []string{
		"dnsmasq", "ip", "nsenter", "setpriv", "mkfs.ext4", "qemu-system-aarch64", "qemu-system-x86_64",
	}}
	os.Exit(s.Run(m, func(w harness.World) error {
		shared = w
		return nil
	}))
}

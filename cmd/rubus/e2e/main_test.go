package e2e

import (
	"os"
	"testing"

	"rubus/cmd/rubus/e2e/harness"
)

// world is what all tests share.
type world struct {
	harness.World
	writer string
}

// shared is set by TestMain before the first test.
var shared world

func TestMain(m *testing.M) {
	s := harness.Suite{Name: "e2e", Parallel: 5, Programs: []string{"dnsmasq", "ip", "mkfs.ext4", "linux.uml"}}
	os.Exit(s.Run(m, func(w harness.World) (err error) {
		shared.World = w
		shared.writer, err = w.Build("writer", "./cmd/rubus/e2e/writer")
		return err
	}))
}

// rounds is how often something that may happen at any moment is done: usually,
// and by "scripts/test --long".
func rounds(usual, long int) int {
	if os.Getenv("RUBUS_LONG") != "" {
		return long
	}
	return usual
}

package nfstest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	dirFlag     = flag.String("dir", "", "run the suite on this mounted directory instead of a local overlay")
	restartFlag = flag.String("restart", "", "the shell command that restarts the server of -dir")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *dirFlag != "" { // where the directory is mounted, or inside a guest that has no namespaces to give
		unix.Umask(0)
		m.Run()
		return
	}
	Main(m)
}

// TestMounted runs the suite on a local overlay, which is the reference, or on
// the directory of -dir.
func TestMounted(t *testing.T) {
	dir := *dirFlag
	if dir == "" {
		base := t.TempDir()
		if err := os.Chmod(filepath.Dir(base), 0o755); err != nil { // other users must get there
			t.Fatal(err)
		}
		dir = NewOverlay(t, base, Golden(t)).Root
	}
	var restart func() error
	if *restartFlag != "" {
		restart = func() error {
			out, err := exec.Command("sh", "-ec", *restartFlag).CombinedOutput()
			if err != nil {
				return fmt.Errorf("restarting the server: %w: %s", err, out)
			}
			return nil
		}
	}
	Run(t, Mounted(dir), restart)
}

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/cmd/internal/simnet"
)

// world is what all tests share: programs and the place for their files.
type world struct {
	dir     string // for the labs' files, on the host's own file system
	rubus   string // with the race detector
	plain   string // without: for User Mode Linux
	writer  string
	scripts string
	golden  string // Debian's root: firmware and kernel are taken from it
}

// shared is set by TestMain before the first test.
var shared world

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: error:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	if err := powers(); err != nil {
		return 1, err
	}
	// Tests wait more than they work: more of them than there are processors.
	if err := flag.Set("test.parallel", "5"); err != nil {
		return 1, err
	}
	const parent = "/var/tmp/rubus-e2e"
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return 1, err
	}
	work, err := simnet.MakeWorkDir(parent)
	if err != nil {
		return 1, err
	}
	defer func() {
		if err := errors.Join(unmountBelow(work.Path), work.Remove()); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: warning:", err)
		}
	}()
	if err := prepare(work.Path); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// powers says what the tests lack.
func powers() error {
	if os.Geteuid() != 0 {
		return errors.New("these tests need root")
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	if len(links) != 1 {
		return errors.New("these tests run in namespaces of their own: go test -exec $PWD/scripts/in-ns")
	}
	for _, p := range []string{"dnsmasq", "ip", "mkfs.ext4", "linux.uml"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("these tests need %q (scripts/deps test)", p)
		}
	}
	return nil
}

// prepare finds and builds what the tests share.
func prepare(dir string) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	source := filepath.Join(here, "../../..")
	shared = world{dir: dir, scripts: os.Getenv("RUBUS_SCRIPTS"), golden: os.Getenv("RUBUS_GOLDEN")}
	if shared.scripts == "" {
		shared.scripts = filepath.Join(source, "scripts")
	}
	if shared.golden == "" {
		cache := os.Getenv("RUBUS_CACHE")
		if cache == "" {
			cache = "/var/cache/rubus"
		}
		roots, err := filepath.Glob(filepath.Join(cache, "golden/*/root"))
		if err != nil || len(roots) == 0 {
			return fmt.Errorf("no golden root in %q (scripts/golden)", cache)
		}
		shared.golden = roots[len(roots)-1]
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	build := func(name, pkg, cgo string, flags ...string) (string, error) {
		out := filepath.Join(bin, name)
		cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if msg, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", pkg, err, msg)
		}
		return out, nil
	}
	var errs [3]error
	shared.rubus, errs[0] = build("rubus", "./cmd/rubus", "1", "-race")
	shared.plain, errs[1] = build("rubus-plain", "./cmd/rubus", "0")
	shared.writer, errs[2] = build("writer", "./cmd/rubus/e2e/writer", "0")
	return errors.Join(errs[:]...)
}

// unmountBelow ends all mounts below dir, the newest first.
func unmountBelow(dir string) error {
	points, err := mountPoints(dir)
	if err != nil {
		return err
	}
	var errs []error
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i].Mountpoint, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %q: %w", points[i].Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// rounds is how often something that may happen at any moment is done: usually,
// and by "scripts/test --long".
func rounds(usual, long int) int {
	if os.Getenv("RUBUS_LONG") != "" {
		return long
	}
	return usual
}

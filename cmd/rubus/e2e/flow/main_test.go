package flow

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"rubus/cmd/internal/simnet"
)

// world is what all tests share.
type world struct {
	dir     string // for the tests' files, on the host's own file system
	rubus   string // with the race detector
	plain   string // without: where speed counts
	scripts string
	golden  string // Debian's root
}

// shared is set by TestMain before the first test.
var shared world

// goldenState is a state directory whose only image is the golden root; it is
// imported by the test that needs it first.
var goldenState = sync.OnceValues(func() (string, error) {
	state := filepath.Join(shared.dir, "golden")
	out, err := exec.Command(shared.plain, "image", "import", "lab", shared.golden, "--state", state).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("importing the golden root: %w\n%s", err, out)
	}
	return state, err
})

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "flow: error:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	if err := powers(); err != nil {
		return 1, err
	}
	// Tests wait more than they work.
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 1, err
	}
	const parent = "/var/tmp/rubus-flow"
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return 1, err
	}
	work, err := simnet.MakeWorkDir(parent)
	if err != nil {
		return 1, err
	}
	defer func() {
		if err := errors.Join(unmountBelow(work.Path), work.Remove()); err != nil {
			fmt.Fprintln(os.Stderr, "flow: warning:", err)
		}
	}()
	if err := os.Chmod(work.Path, 0o755); err != nil {
		return 1, err
	}
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
	// scripts/in-ns makes a network with a loopback alone, and mounts of its own.
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	if len(links) != 1 || links[0].Flags&net.FlagLoopback == 0 {
		return errors.New("these tests run in namespaces of their own: go test -exec $PWD/scripts/in-ns")
	}
	for _, p := range []string{
		"dnsmasq", "ip", "nsenter", "setpriv", "mkfs.ext4", "qemu-system-aarch64", "qemu-system-x86_64",
	} {
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
	source := filepath.Join(here, "../../../..")
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
	build := func(name, cgo string, flags ...string) (string, error) {
		out := filepath.Join(dir, name)
		cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "./cmd/rubus")...)
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if msg, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building rubus: %w\n%s", err, msg)
		}
		return out, nil
	}
	var errs [2]error
	shared.rubus, errs[0] = build("rubus-race", "1", "-race")
	shared.plain, errs[1] = build("rubus", "0")
	return errors.Join(errs[:]...)
}

// unmountBelow ends all mounts below dir, the newest first.
func unmountBelow(dir string) error {
	points, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
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

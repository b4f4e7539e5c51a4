package harness

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"rubus/cmd/internal/simnet"
)

// Suite is a package of tests of the whole. It runs as root, in namespaces that
// scripts/in-ns made for it.
type Suite struct {
	Name     string   // of its directory below /var/tmp, and of who complains
	Parallel int      // tests at once: they wait more than they work
	Programs []string // of the machine, that it needs
}

// World is what a suite's tests share. Its directory goes with the suite.
type World struct {
	Dir     string // for the tests' files, on the host's own file system; everybody may look into it
	Rubus   string // with the race detector
	Plain   string // without: where speed counts, and for User Mode Linux
	Scripts string // the project's own
	Golden  string // Debian's root: firmware and kernel are taken from it
	source  string // the module
}

// Run makes the world, shows it to ready, and runs the tests. The exit code is
// not 0 when the machine lacks something: no test is skipped for that.
func (s Suite) Run(m *testing.M, ready func(World) error) (code int) {
	flag.Parse()
	code, err := s.run(m, ready)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: error: %v\n", s.Name, err)
		code = 1
	}
	return code
}

func (s Suite) run(m *testing.M, ready func(World) error) (int, error) {
	if err := s.powers(); err != nil {
		return 1, err
	}
	if err := flag.Set("test.parallel", strconv.Itoa(s.Parallel)); err != nil {
		return 1, err
	}
	parent := "/var/tmp/rubus-" + s.Name
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return 1, err
	}
	work, err := simnet.MakeWorkDir(parent)
	if err != nil {
		return 1, err
	}
	defer func() {
		if err := errors.Join(UnmountBelow(work.Path), work.Remove()); err != nil {
			fmt.Fprintf(os.Stderr, "%s: warning: %v\n", s.Name, err)
		}
	}()
	if err := os.Chmod(work.Path, 0o755); err != nil {
		return 1, err
	}
	w, err := makeWorld(work.Path)
	if err != nil {
		return 1, err
	}
	if err := ready(w); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// powers says what the tests lack.
func (s Suite) powers() error {
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
	for _, p := range s.Programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("these tests need %q (scripts/deps test)", p)
		}
	}
	return nil
}

// makeWorld finds and builds what all tests of the whole need.
func makeWorld(dir string) (w World, err error) {
	source, err := moduleRoot()
	if err != nil {
		return w, err
	}
	w = World{Dir: dir, Scripts: os.Getenv("RUBUS_SCRIPTS"), Golden: os.Getenv("RUBUS_GOLDEN"), source: source}
	if w.Scripts == "" {
		w.Scripts = filepath.Join(source, "scripts")
	}
	if w.Golden == "" {
		cache := os.Getenv("RUBUS_CACHE")
		if cache == "" {
			cache = "/var/cache/rubus"
		}
		roots, err := filepath.Glob(filepath.Join(cache, "golden/*/root"))
		if err != nil || len(roots) == 0 {
			return w, fmt.Errorf("no golden root in %q (scripts/golden)", cache)
		}
		w.Golden = roots[len(roots)-1]
	}
	if w.Rubus, err = w.Build("rubus-race", "./cmd/rubus", "-race"); err != nil {
		return w, err
	}
	w.Plain, err = w.Build("rubus", "./cmd/rubus")
	return w, err
}

// Build builds a command of the module and says where the program is. Without
// the race detector it stands on its own: it also runs where nothing of this
// machine is.
func (w World) Build(name, pkg string, flags ...string) (path string, err error) {
	path = filepath.Join(w.Dir, "bin", name)
	cgo := "0"
	if len(flags) > 0 { // the race detector needs it
		cgo = "1"
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), pkg)...)
	cmd.Dir = w.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, msg)
	}
	return path, nil
}

// moduleRoot is the directory of go.mod, above the tests'.
func moduleRoot() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above %q", here)
		}
	}
}

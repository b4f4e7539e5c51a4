package unfsd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
	"rubus/nfsexport/mount3"
	"rubus/nfsexport/unfsd"
)

// server is the whole NFS server in a process of its own, so that its open
// files, its memory and its limits are its own.
type server struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	spec  spec
	mu    sync.Mutex
	log   strings.Builder // guarded by mu
}

// spec is what the process is told.
type spec struct {
	Addr    string
	Cache   string
	Files   uint64 // RLIMIT_NOFILE, both; 0: as it is
	Exports []nfsexport.Export
}

const childEnv = "RUBUS_UNFSD_TEST_SERVER"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := serve(text); err != nil {
			fmt.Fprintln(os.Stderr, "server:", err)
			os.Exit(1)
		}
		return
	}
	unix.Umask(0)
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// serve is the process: it serves until its standard input ends.
func serve(path string) error {
	var s spec
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s.Files > 0 {
		if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: s.Files, Max: s.Files}); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	fs, err := handlefs.New(handlefs.Options{Key: serverKey, Seed: 1, Logger: log})
	if err != nil {
		return err
	}
	for _, x := range s.Exports {
		x.Activity = new(nfsexport.Activity)
		if err := fs.Publish(x); err != nil {
			return err
		}
	}
	server := unfsd.New(unfsd.Config{
		Store: fs, Addrs: []netip.Addr{netip.MustParseAddr(s.Addr)}, CachePath: s.Cache, Log: log,
		Mounter: mount3.MounterFunc(func(_ context.Context, path string, peer netip.AddrPort) ([]byte, mount3.Status) {
			for _, x := range s.Exports {
				if x.Path == path && x.Client == peer.Addr().Unmap() {
					h, err := fs.RootHandle(x.ID)
					if err != nil {
						return nil, mount3.ErrServerFault
					}
					return h, mount3.OK
				}
			}
			return nil, mount3.ErrAcces
		}),
	})
	if err := server.Listen(context.Background()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println("ready")
	if err := server.Serve(ctx); err != nil {
		return err
	}
	return fs.Close()
}

// built is the directory of what plain built; "": nothing.
var built string

// plain is this test program without the race detector, which takes several
// times the memory and time.
var plain = sync.OnceValues(func() (string, error) {
	if !raceOn {
		return "/proc/self/exe", nil
	}
	var err error
	if built, err = os.MkdirTemp("", "unfsd-test-"); err != nil {
		return "", err
	}
	program := filepath.Join(built, "plain")
	cmd := exec.Command("go", "test", "-c", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the server: %w\n%s", err, out)
	}
	return program, nil
})

// startServer starts the process and waits until it serves. At the end of the
// test it must end well, and must not have panicked.
func startServer(t *testing.T, program string, s spec) *server {
	t.Helper()
	dir := t.TempDir()
	s.Cache = filepath.Join(dir, "replies")
	b, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "spec"), b, 0o600))
	srv := &server{t: t, spec: s, cmd: exec.Command(program)}
	srv.cmd.Env = append(os.Environ(), childEnv+"="+filepath.Join(dir, "spec"))
	srv.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	srv.cmd.Stderr = srv
	srv.stdin, err = srv.cmd.StdinPipe()
	must(t, err)
	out, err := srv.cmd.StdoutPipe()
	must(t, err)
	must(t, srv.cmd.Start())
	t.Cleanup(func() {
		srv.stdin.Close()
		if err := srv.cmd.Wait(); err != nil {
			t.Errorf("the server ended: %v", err)
		}
		if text := srv.said(); strings.Contains(text, "panic") || strings.Contains(text, "DATA RACE") {
			t.Errorf("the server says:\n%s", text)
		} else if t.Failed() {
			t.Logf("the server says:\n%.4000s", text)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the server does not start: %q, %v\n%s", line, err, srv.said())
	}
	return srv
}

// Write takes what the server says.
func (s *server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func (s *server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// files is how many files the server has open.
func (s *server) files() int {
	s.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	must(s.t, err)
	return len(list)
}

// sockets is how many of them are sockets.
func (s *server) sockets() (n int) {
	s.t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.cmd.Process.Pid))
	must(s.t, err)
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "socket:") { // else closed meanwhile
			n++
		}
	}
	return n
}

// figure is a line of the server's /proc/PID/status: in KiB, or a number.
func (s *server) figure(name string) int {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	must(s.t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			must(s.t, err)
			return n
		}
	}
	s.t.Fatalf("no %s in /proc/PID/status", name)
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// roots mounts overlays over one lower, with an upper each, and gives their
// exports: to the clients 127.10.0.1 and on.
func roots(t *testing.T, n int, fill func(lower string)) []nfsexport.Export {
	t.Helper()
	base := t.TempDir()
	lower := filepath.Join(base, "lower")
	must(t, os.Mkdir(lower, 0o755))
	fill(lower)
	var out []nfsexport.Export
	t.Cleanup(func() {
		for _, x := range out {
			_ = unix.Unmount(x.Dir, unix.MNT_DETACH)
		}
	})
	for i := range n {
		dir := filepath.Join(base, strconv.Itoa(i))
		for _, d := range []string{"", "upper", "work", "root"} {
			must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
		}
		root := filepath.Join(dir, "root")
		must(t, unix.Mount("overlay", root, "overlay", unix.MS_NOSUID|unix.MS_NODEV,
			"lowerdir="+lower+",upperdir="+dir+"/upper,workdir="+dir+"/work,nfs_export=on,index=on"))
		out = append(out, nfsexport.Export{
			ID: nfsexport.ID(0x1000 + i), Name: fmt.Sprintf("b%07x", i), Path: fmt.Sprintf("/b%07x/1", i), Dir: root, Upper: dir + "/upper",
			State: nfsexport.Ready, Client: clientAddr(i),
		})
	}
	return out
}

// serverKey seals the server's handles.
var serverKey = [32]byte{7}

// clientAddr is the address of a client.
func clientAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 10, byte(i >> 8), byte(i)}).Next()
}

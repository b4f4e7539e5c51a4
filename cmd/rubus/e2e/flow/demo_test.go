package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"

	"github.com/creack/pty"
)

// demo is a running scripts/demo on a terminal of its own.
type demo struct {
	t     *testing.T
	cmd   *exec.Cmd
	tty   *os.File
	cache string
	mark  string // in the environment of all its processes
	ended chan struct{}
	err   error // how it ended; read after ended

	mu   sync.Mutex
	seen []byte // what the terminal shows; guarded by mu
}

// startDemo starts scripts/demo as a user does. Its cache is its own, so that
// what it leaves there is seen; only the golden root in it is the machine's.
func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	d := &demo{t: t, ended: make(chan struct{})}
	d.cache = filepath.Join(shared.Dir, strings.ReplaceAll(t.Name(), "/", "-"))
	must(t, os.MkdirAll(d.cache, 0o755))
	must(t, os.Symlink(filepath.Dir(filepath.Dir(shared.Golden)), filepath.Join(d.cache, "golden")))
	d.mark = "RUBUS_DEMO_MARK=" + d.cache
	d.cmd = exec.CommandContext(context.Background(), filepath.Join(shared.Scripts, "demo"), args...)
	d.cmd.Env = append(os.Environ(), "RUBUS_CACHE="+d.cache, "TERM=xterm", d.mark)
	var err error
	d.tty, err = pty.StartWithSize(d.cmd, &pty.Winsize{Rows: 25, Cols: 80})
	must(t, err)
	t.Cleanup(func() {
		select {
		case <-d.ended:
		default:
			d.typeKeys("\x1d\x03") // out of the console, then out of the demo
			<-d.ended
		}
		if t.Failed() {
			t.Logf("the demo's terminal shows:\n%s", harness.LastLines(d.screen(), 60))
		}
	})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := d.tty.Read(buf)
			d.mu.Lock()
			d.seen = append(d.seen, buf[:n]...)
			d.mu.Unlock()
			if err != nil { // EIO: all that had the terminal open are gone
				break
			}
		}
		d.err = d.cmd.Wait()
		d.tty.Close()
		close(d.ended)
	}()
	return d
}

func (d *demo) screen() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.ReplaceAll(string(d.seen), "\r", "")
}

// shows waits until the terminal shows a text. It gives what follows it.
func (d *demo) shows(limit time.Duration, text string) string {
	d.t.Helper()
	var rest string
	harness.Until(d.t, limit, fmt.Sprintf("the demo shows %q", text), func() error {
		_, after, ok := strings.Cut(d.screen(), text)
		rest = after
		select {
		case <-d.ended:
			if !ok {
				d.t.Fatalf("the demo ended without %q: %v", text, d.err)
			}
		default:
		}
		if !ok {
			return errors.New("not yet")
		}
		return nil
	})
	return rest
}

func (d *demo) typeKeys(keys string) {
	d.t.Helper()
	_, err := d.tty.WriteString(keys)
	must(d.t, err)
}

// end waits for the end of the demo and checks that nothing of it is left.
func (d *demo) end(want int) {
	t := d.t
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(harness.Patience * 2 * time.Minute):
		t.Fatal("the demo does not end")
	}
	if got := d.cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("the demo's exit code is %d, not %d: %v", got, want, d.err)
	}
	left, err := os.ReadDir(d.cache)
	must(t, err)
	for _, e := range left {
		if e.Name() != "golden" {
			t.Errorf("the demo left %q in its cache", e.Name())
		}
	}
	for _, name := range []string{"lab", "router"} {
		path := fmt.Sprintf("/run/netns/rubus-%s-%d", name, d.cmd.Process.Pid)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the demo left %q: %v", path, err)
		}
	}
	if alive := marked(d.mark); len(alive) > 0 {
		t.Errorf("the demo left processes behind: %q", alive)
	}
}

// marked lists the processes with a word in their environment.
func marked(word string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		env, _ := os.ReadFile(f) // gone meanwhile: not left
		if bytes.Contains(env, append([]byte(word), 0)) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// Ctrl-C while the board boots ends the demo and all that belongs to it.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	d.shows(5*time.Minute, "6/6 an emulated Pi 3 boots")
	harness.Until(t, time.Minute, "the demo's board has begun", func() error {
		for _, line := range marked(d.mark) {
			if strings.Contains(line, "simulate --model 3b") {
				return nil
			}
		}
		return errors.New("not yet")
	})
	d.typeKeys("\x03")
	d.end(130)
}

// With --keep one can look around at the board's login prompt.
func TestDemoKept(t *testing.T) {
	t.Parallel()
	over := waitTurn(t)
	d := startDemo(t, "--keep")
	for i := 1; i <= 6; i++ {
		d.shows(5*time.Minute, fmt.Sprintf("==> %d/6 ", i))
	}
	d.shows(10*time.Minute, "login:")
	over()
	d.typeKeys("root\r")
	d.shows(3*time.Minute, "root@")
	d.typeKeys("echo at home: $(tr -d '\\0' </proc/device-tree/serial-number) $(findmnt -no FSTYPE /)\r")
	d.shows(time.Minute, "at home: 000000005b154510 nfs")

	// The commands it names for another terminal work.
	words := strings.Fields(strings.SplitN(d.shows(time.Second, "In another terminal:"), "\n", 3)[1])
	out, err := exec.Command(words[0], append(words[1:], "--json")...).CombinedOutput()
	if err != nil || !regexp.MustCompile(`"phase": "(running|good)"`).Match(out) {
		t.Errorf("%q: %v\n%s", words, err, out)
	}
	d.typeKeys("\x1d")
	d.end(0)
	has(t, "the demo at its end", d.screen(), "the board ran until its console was left", "cleaning up")
}

// Without --keep it asks the board and prints what happened when.
func TestDemo(t *testing.T) {
	t.Parallel()
	over := waitTurn(t)
	d := startDemo(t)
	for i := 1; i <= 6; i++ {
		d.shows(5*time.Minute, fmt.Sprintf("==> %d/6 ", i))
	}
	d.shows(15*time.Minute, "login prompt")
	over()
	d.end(0)
	rest := d.shows(time.Second, "6/6 an emulated Pi 3 boots")
	has(t, "the demo", rest, "running", "000000005b154510", "nfs", "10.99.0.2:/5b154510/1", "login prompt",
		"the board in rubus' eyes", "bench-01", "lab@1", "cleaning up")
}

package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rubus/boot/fakepi"
)

// guest puts a program in QEMU's place that plays a booted board with the
// host's own shell: it has the console on a terminal, as a board has.
func guest(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	// The shell's set-up silences kernel and systemd; the host's stay as they are.
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("dmesg", "")
	write("kill", "")
	write("systemctl", `
case $1 in
poweroff) echo 'reboot: Power down'; reason=guest-shutdown ;;
reboot) reason=guest-reset ;;
*) exit 1 ;;
esac
echo '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "'$reason'"}}' >&5
# With the shell ends script, when it has passed all on.
/bin/kill -9 $PPID
`)
	write("board", script)
	// script(1), of util-linux, makes the terminal.
	write(Program, "exec 0<&4 1>&4; PATH="+dir+":$PATH exec script -qfec "+dir+"/board /dev/null\n")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

const booted = `
echo 'Booting Linux on physical CPU 0x0000000000'
echo 'usb 1-1: eth0: register '"'rndis_host'"' at usb'
printf 'rubus login: '
read user
[ "$user" = root ] || exit 1
printf '\033[?2004hroot@rubus:~# '
exec sh -c 'read -r line; eval "$line"'
`

func start(t *testing.T, script string, opt Options) *Machine {
	t.Helper()
	guest(t, script)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	opt.NIC = null
	m, err := Start(result(t, "3b"), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestExec(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	log := &bytes.Buffer{}
	m := start(t, booted, Options{ConsoleLog: log, Observe: func(e fakepi.Event) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, e.Text)
	}})
	ctx := patience(t)
	if err := m.WaitLogin(ctx); err != nil {
		t.Fatal(err)
	}
	long := "echo " + strings.Repeat("x", 9000)
	for name, c := range map[string]struct {
		command, out string
		status       int
	}{
		"output":              {"echo hello; echo there >&2", "hello\nthere\n", 0},
		"status":              {"echo bad; exit 7", "bad\n", 7},
		"silence":             {"true", "", 0},
		"no newline":          {"printf abc", "abc", 0},
		"quotes and newlines": {"echo 'a \"b\"'\necho $((1+1))", "a \"b\"\n2\n", 0},
		"long":                {long, strings.Repeat("x", 9000) + "\n", 0},
		"reads nothing":       {"cat", "", 0},
		"not found":           {"no-such-command 2>/dev/null", "", 127},
	} {
		var out bytes.Buffer
		status, err := m.Exec(ctx, c.command, &out)
		if err != nil || status != c.status || out.String() != c.out {
			t.Errorf("%s: %d, %v, %.80q", name, status, err, out.String())
		}
	}
	if err := m.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if m.Rebooted() {
		t.Error("a board that was switched off is said to have rebooted")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"kernel starts", "network card found", "login prompt", "logged in", "powers down"} {
		if !slices.Contains(seen, want) {
			t.Errorf("%q was not seen: %q", want, seen)
		}
	}
}

// A reset is told from being switched off.
func TestReboot(t *testing.T) {
	m := start(t, booted, Options{})
	ctx := patience(t)
	if err := m.WaitLogin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	m = start(t, booted, Options{})
	if err := m.WaitLogin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Exec(ctx, `printf '#!/bin/sh\n/bin/kill -9 $PPID\n' >"${PATH%%:*}/systemctl"`, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Reboot(ctx); err == nil || !strings.Contains(err.Error(), "without a reset") {
		t.Fatal(err)
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   error
		last   string
	}{
		"panic":             {"echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'; sleep 60", ErrPanic, "Unable to mount root"},
		"the emulator ends": {"echo 'last words'; exit 1", ErrStopped, "last words"},
	} {
		t.Run(name, func(t *testing.T) {
			err := start(t, c.script, Options{}).WaitLogin(patience(t))
			ce, ok := errors.AsType[*ConsoleError](err)
			if !ok || !errors.Is(err, c.want) || !strings.Contains(ce.Console, c.last) {
				t.Fatalf("%v: %+v", err, ce)
			}
		})
	}
	t.Run("no prompt in time", func(t *testing.T) {
		m := start(t, "echo waiting; sleep 60", Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := m.WaitLogin(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
	t.Run("a password", func(t *testing.T) {
		m := start(t, "printf 'login: '; read u; printf 'Password: '; read p", Options{})
		if err := m.WaitLogin(patience(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Exec(patience(t), "true", &bytes.Buffer{}); !errors.Is(err, ErrPassword) {
			t.Fatal(err)
		}
	})
	t.Run("no emulator", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := Start(result(t, "3b"), Options{}); err == nil || !strings.Contains(err.Error(), "qemu-system-arm") {
			t.Fatal(err)
		}
	})
}

func TestConsoleIsBounded(t *testing.T) {
	c := &console{more: make(chan struct{})}
	for i := range 300 {
		c.take(bytes.Repeat([]byte{'a' + byte(i%26)}, 8192), nil)
	}
	if len(c.held) > maxHeld || len(c.tail) > 2048 || len(c.part) > 4096 {
		t.Fatal(len(c.held), len(c.tail), len(c.part))
	}
	c.take([]byte(fmt.Sprintf("\n%s\r\n", "one\x1b[Ktwo")), nil)
	if got := c.lastLines(1); got != "one[Ktwo" {
		t.Fatalf("%q", got)
	}
}

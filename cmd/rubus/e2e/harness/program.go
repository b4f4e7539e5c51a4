package harness

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rubus/boot/fakepi/child"
)

// Run runs a program that must succeed, and returns what it printed. It also
// works in cleanups, where the test's own context is over.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Start starts a program that writes all it says to the end of a log. It does
// not outlive the tests; stopping it is the caller's.
func Start(t testing.TB, cmd *exec.Cmd, log Log) *child.Process {
	t.Helper()
	f, err := os.OpenFile(string(log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	p, err := child.Start(cmd)
	must(t, err)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

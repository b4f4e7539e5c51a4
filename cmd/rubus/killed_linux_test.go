package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/cli"
)

// killed is a verb that is killed. "DIR" in its arguments is the directory of the world.
type killed struct {
	args  []string
	state string // "state" where it is not said
	// calls are what it is killed before; nil: what changes the disk. inside: also before those
	// of the processes that it starts.
	calls  []uint32
	inside bool
	// before comes first, after looks at what is there; again: the verb was said twice.
	before func(*killedWorld)
	after  func(w *killedWorld, again bool)
	// done is the error of a verb that finds it has been done.
	done string
}

// allKilled are all verbs that are killed, each of its rows with a name.
func allKilled() map[string]killed {
	all := killedState()
	maps.Copy(all, killedImages())
	maps.Copy(all, killedFiles())
	return all
}

// Verbs that need no daemon are killed before each call that changes what is on the disk:
// there is what was there, or what was asked for, and after the verb was said again nothing
// else.
func TestKilledAtEveryWrite(t *testing.T) {
	for name, c := range allKilled() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

func (c *killed) run(t *testing.T) {
	if c.state == "" {
		c.state = "state"
	}
	k := killer{calls: c.calls, inside: c.inside}
	if k.calls == nil {
		k.calls = changing()
	}
	dir := inMemory(t)
	first := newKilledWorld(t, filepath.Join(dir, "first"))
	if c.before != nil {
		c.before(first)
	}
	rubus, err := exec.LookPath("rubus")
	if err != nil {
		t.Fatal(err)
	}
	kills := 0
	for n, cut := 1, true; cut && !t.Failed(); n++ {
		w := first.copied(t, filepath.Join(dir, strconv.Itoa(n)))
		args := slices.Clone(c.args)
		for i, a := range args {
			args[i] = strings.Replace(a, "DIR", w.dir, 1)
		}
		if cut = k.killedAt(t, n, w.env(c.state), rubus, args...); cut {
			kills++
			c.after(w, false)
		}
		w.rubusOr(c.done, c.state, args...)
		w.none(c.state+"/images/tmp/*", c.state+"/devices/.*", c.state+"/devices/*/snapshots/.*", c.state+"/devices/*/uppers/.*",
			c.state+"/devices/*/identity/.*", c.state+"/devices/*/identity/changed", "nas/.rubus-*", "out/.*", "*.tmp*", ".devices.yaml[0-9]*")
		c.after(w, true)
		if t.Failed() {
			t.Logf("killed before call %d that changes the disk", n)
		}
		if err := os.RemoveAll(w.dir); err != nil {
			t.Fatal(err)
		}
	}
	first.noneMounted()
	if kills < 3 {
		t.Errorf("killed %d times alone", kills)
	}
	t.Logf("killed %d times", kills)
}

// notKilled are the verbs, and what flags make of them, that are not killed here. What begins
// with "test" names the one that shows it elsewhere: its directory and its name.
func notKilled() map[string]string {
	const (
		reads  = "it changes nothing"
		asks   = "it asks the daemon, and changes nothing"
		daemon = "test boot TestStateKilledAtEveryStep" // the daemon does it: it goes on when the verb dies
	)
	return map[string]string{
		"serve":                     "test cmd/rubus/e2e TestDaemonKilled",
		"device stop":               "test cmd/rubus/e2e TestDaemonKilled", // it changes nothing on the disk
		"device snapshot":           daemon,
		"device snapshots --remove": daemon,
		"device restore":            daemon,
		"device reset":              daemon,
		"device rebase":             "test boot TestMoveKilledAtEveryStep",
		"device rebase --first":     "test boot TestBatchKilled",
		"device replace":            "test boot TestReplaceKilledAtEveryStep", // then devices.yaml as the others do
		"restore FILE...":           "test boot TestRestoreKilledAtEveryStep", // over a board that is there, too
		"image dedupe":              "test images/share TestKilled",           // needs another file system
		"image export docker://":    "test cmd/rubus TestRegistryKilled",
		"simulate":                  "test cmd/internal/simnet TestOldWorkDirs", // it works in a directory of its own

		"reload": asks, "status": asks, "leases": asks, "device list": asks, "device log": asks, "device snapshots": asks,
		"check": reads, "df": reads, "doctor": reads, "version": reads, "device show": reads, "device known-hosts": reads,
		"device diff": reads, "image list": reads, "image show": reads, "image verify": reads, "image diff": reads,
		"image edit-inside": "test cmd/rubus TestChildIsKilled",
	}
}

// Each verb is killed, or it says here why not.
func TestEachVerbIsKilled(t *testing.T) {
	none := func(string) string { return "" }
	root := newRoot(cli.New(none, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}))
	has := map[string]bool{}
	for name, c := range allKilled() {
		verb, _, err := root.Find(c.args)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		has[verb.CommandPath()] = true
	}
	excused := notKilled()
	walk(root, func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), "rubus ")
		if _, ok := excused[path]; c.Runnable() && !ok && !has[c.CommandPath()] {
			t.Errorf("%q is not killed: give it a row in allKilled, or say in notKilled why not", path)
		}
	})
	for what, why := range excused {
		if c, _, err := root.Find(strings.Fields(what)); err != nil || c == root || !c.Runnable() {
			t.Errorf("there is no verb %q", what)
		}
		where, ok := strings.CutPrefix(why, "test ")
		if !ok {
			continue
		}
		dir, test, _ := strings.Cut(where, " ")
		if !isTest(t, dir, test) {
			t.Errorf("%q: there is no %s in %s", what, test, dir)
		}
	}
}

// isTest says whether a test is in the package of a directory of the repository.
func isTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s: %q, %v", dir, files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(text, []byte("\nfunc "+name+"(t *testing.T) {")) {
			return true
		}
	}
	return false
}

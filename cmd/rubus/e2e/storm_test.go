package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rubus/cmd/rubus/e2e/harness"
)

// stormDir is where in a root the storm is; the image has it as sow leaves it.
const stormDir = "/srv/storm"

// sow puts into a tree what a storm begins with.
func sow(t *testing.T, tree string) {
	t.Helper()
	harness.Run(t, shared.writer, "sow", tree+stormDir)
}

// storm is a storm of calls from a machine, see package writer.
type storm struct {
	m   *machine
	rnd *rand.Rand
}

// stormSeed is another number each time, unless RUBUS_SEED asks for one again.
func stormSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("RUBUS_SEED"); v != "" {
		var err error
		seed, err = strconv.ParseUint(v, 10, 64)
		must(t, err)
	}
	t.Logf("the storm's seed: RUBUS_SEED=%d", seed)
	return seed
}

// startStorm begins a storm in /mnt/root.
func (m *machine) startStorm(seed uint64) *storm {
	m.t.Helper()
	s := &storm{m, rand.New(rand.NewPCG(seed, 0))}
	m.do(fmt.Sprintf("%s storm /mnt/root%s %s %d %s/calm >%[5]s/storm.log 2>&1 & storm=$!", shared.writer, stormDir, s.journals(), seed, m.share))
	s.goesOn()
	return s
}

// journals is the directory of the workers' journals.
func (s *storm) journals() string { return s.m.share + "/storm" }

// written is how long each worker's journal is.
func (s *storm) written() (sizes []int64) {
	s.m.t.Helper()
	names, err := filepath.Glob(s.journals() + "/journal.*")
	must(s.m.t, err)
	for _, name := range names {
		info, err := os.Stat(name)
		must(s.m.t, err)
		sizes = append(sizes, info.Size())
	}
	return sizes
}

// stormLimit is how long a storm may stand still: a client comes back to a
// server that was away a while within a minute.
const stormLimit = 3 * time.Minute

// goesOn waits until each worker's calls are answered again.
func (s *storm) goesOn() {
	s.m.t.Helper()
	if err := s.tryGoOn(); err != nil {
		s.m.t.Fatalf("not every worker of the storm goes on: %v", err)
	}
}

func (s *storm) tryGoOn() error {
	s.m.t.Helper()
	from := s.written()
	return harness.Poll(s.m.t, stormLimit, func() error {
		now := s.written()
		for i, n := range now {
			if i < len(from) && n < from[i]+1000 {
				return s.still(fmt.Sprintf("worker %d: %d bytes of journal, then %d", i, from[i], n))
			}
		}
		if len(now) == 0 {
			return s.still("no journals")
		}
		return nil
	})
}

func (s *storm) still(what string) error {
	said, _ := os.ReadFile(s.m.share + "/storm.log")
	return fmt.Errorf("%s; %s", what, said)
}

// moment waits for a moment at random while the storm's calls are answered.
func (s *storm) moment() {
	s.m.t.Helper()
	sum := func() (n int64) {
		for _, size := range s.written() {
			n += size
		}
		return n
	}
	goal := sum() + 1 + s.rnd.Int64N(30000)
	harness.Until(s.m.t, stormLimit, "the storm goes on", func() error {
		if n := sum(); n < goal {
			return s.still(fmt.Sprintf("%d bytes of journals, want %d", n, goal))
		}
		return nil
	})
}

// end ends the storm.
func (s *storm) end() {
	s.m.t.Helper()
	must(s.m.t, os.WriteFile(s.m.share+"/calm", nil, 0o644))
	if out, err := s.m.try("wait $storm"); err != nil {
		s.m.t.Fatalf("the storm ended with %v: %s %v", err, out, s.still(""))
	}
}

// cutOff ends a storm of which some call does not come back.
func (s *storm) cutOff() {
	s.m.t.Helper()
	_, _ = s.m.try("kill -9 $storm; wait $storm")
}

// findings is what a look at the files and the journals gave.
type findings struct {
	who                           string
	cuts                          int // of power, if that is what the storm was about
	ops, tolerated, failed, wrong int
	left                          int // the client's names of removed open files
	waited                        int // ops that waited for it to remove such a name
	text                          string
}

// compare has a machine look at the files below root.
func (s *storm) compare(who string, on *machine, root string) findings {
	s.m.t.Helper()
	var f findings
	// A client takes its own names for removed open files away after they are
	// closed. Some stay, if it was told that a file had no such name.
	_ = harness.Poll(s.m.t, 10*time.Second, func() (err error) {
		f, err = parseFindings(on.all(fmt.Sprintf("echo 3 >/proc/sys/vm/drop_caches; %s compare %s%s %s", shared.writer, root, stormDir, s.journals())))
		must(s.m.t, err)
		if f.left > 0 {
			err = fmt.Errorf("%d names are left", f.left)
		}
		return err
	})
	f.who = who
	return f
}

func parseFindings(out string) (f findings, err error) {
	first, rest, _ := strings.Cut(out, "\n")
	_, err = fmt.Sscanf(first, "ops=%d tolerated=%d failed=%d wrong=%d left=%d waited=%d", &f.ops, &f.tolerated, &f.failed, &f.wrong, &f.left, &f.waited)
	f.text = rest
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return f, err
}

// mustBe fails the test unless all is as the journals say and no call failed;
// with reboots, a call may have been told that its own effect was there. When
// that was the client's own rename of an open file to be removed, it left that.
func (f findings) mustBe(t *testing.T, reboots bool) {
	t.Helper()
	if f.failed > 0 || f.wrong > 0 || f.left > f.tolerated || f.tolerated > 0 && !reboots {
		t.Errorf("%s: of %d ops %d failed, %d were told that their effect was there; %d objects are wrong, %d names are left\n%s", f.who, f.ops, f.failed, f.tolerated, f.wrong, f.left, firstLines(f.text, 40))
	}
}

func firstLines(s string, n int) string {
	lines := strings.SplitN(s, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

// once are the procedures that must not be done twice, by the client's names.
var once = []string{"SETATTR", "CREATE", "MKDIR", "SYMLINK", "MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK"}

// sentAgain is how many more times than there were such calls the client sent
// one that must not be done twice, by its own count.
func (m *machine) sentAgain() (n int) {
	m.t.Helper()
	for line := range strings.Lines(m.all("cat /proc/self/mountstats")) {
		f := strings.Fields(line)
		if len(f) < 3 || !slices.Contains(once, strings.TrimSuffix(f[0], ":")) {
			continue
		}
		ops, err := strconv.Atoi(f[1])
		must(m.t, err)
		sent, err := strconv.Atoi(f[2])
		must(m.t, err)
		n += sent - ops
	}
	return n
}

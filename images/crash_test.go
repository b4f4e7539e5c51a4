package images_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/imageref"
)

// TestMain is also the process that is killed: with RUBUS_CRASH set to
// "OPERATION COUNT" it does the operation and kills itself at step COUNT.
func TestMain(m *testing.M) {
	if what := os.Getenv("RUBUS_CRASH"); what != "" {
		os.Exit(crash(what, os.Getenv("RUBUS_CRASH_DIR")))
	}
	os.Exit(m.Run())
}

func crash(what, dir string) int {
	op, count, _ := strings.Cut(what, " ")
	left, err := strconv.Atoi(count)
	if err != nil {
		panic(err)
	}
	s, err := images.Open(dir)
	if err != nil {
		panic(err)
	}
	s.Observe = func(images.Step) {
		if left--; left == 0 {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {} // until it arrives
		}
	}
	if err := operations[op](context.Background(), s); err != nil {
		panic(err)
	}
	return 0
}

// operations are what is cut off at every step. Before each the store holds
// lab@1 and lab@2 with the tag at 2, old@1, and a layer that nothing names.
var operations = map[string]func(context.Context, *images.Store) error{
	"import": func(ctx context.Context, s *images.Store) error {
		_, _, err := put(ctx, s, "new", images.NewVersion{Name: "lab"})
		return err
	},
	"first": func(ctx context.Context, s *images.Store) error {
		_, _, err := put(ctx, s, "new", images.NewVersion{Name: "fresh"})
		return err
	},
	"shared": func(ctx context.Context, s *images.Store) error {
		_, _, err := put(ctx, s, "1", images.NewVersion{Name: "lab"})
		return err
	},
	"keep": func(ctx context.Context, s *images.Store) error {
		b, err := built(ctx, s, "kept")
		if err != nil {
			return err
		}
		b.Chain = strings.Repeat("c", 64)
		_, err = s.Keep(ctx, b)
		return err
	},
	"tag": func(ctx context.Context, s *images.Store) error {
		_, err := s.Tag(ctx, "lab", 1)
		return err
	},
	"remove": func(ctx context.Context, s *images.Store) error {
		_, err := s.Remove(ctx, []imageref.Ref{ref("lab"), ref("old@1")}, noUses)
		return err
	},
	"gc": func(ctx context.Context, s *images.Store) error {
		_, err := s.GC(ctx, noUses)
		return err
	},
}

func prepared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	mustPut(t, s, "lab", "1")
	mustPut(t, s, "lab", "2")
	mustPut(t, s, "old", "3")
	mustPut(t, s, "garbage", "4")
	_, err := s.Remove(t.Context(), []imageref.Ref{ref("garbage")}, noUses)
	must(t, err)
	return dir
}

// world is all that the store shows.
func world(t *testing.T, s *images.Store, withLayers bool) string {
	t.Helper()
	list, err := s.List()
	must(t, err)
	tags, err := s.Tags()
	must(t, err)
	var b strings.Builder
	for _, v := range list {
		fmt.Fprintf(&b, "%s", v.Ref)
		for _, l := range v.Layers {
			must(t, s.Verify(t.Context(), l.Digest, nil))
			fmt.Fprintf(&b, " %.8s", l.Digest)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintln(&b, tags)
	if withLayers {
		layers, err := os.ReadDir(filepath.Join(s.Dir(), "layers"))
		must(t, err)
		fmt.Fprintln(&b, len(layers))
	}
	return b.String()
}

// Killed at every step, each change has happened or has not, nothing else.
func TestKilledAtEveryStep(t *testing.T) {
	for op := range operations {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			before := open(t, prepared(t))
			old := world(t, before, true)
			must(t, operations[op](t.Context(), before))
			done := world(t, before, true)
			if old == done {
				t.Fatal("the operation changes nothing")
			}
			sawOld, sawNew := false, false
			for step := 1; ; step++ {
				dir := prepared(t)
				if killed := runCrash(t, op, step, dir); !killed {
					if step < 3 || !sawOld || !sawNew {
						t.Errorf("only %d steps, old seen %v, new seen %v", step-1, sawOld, sawNew)
					}
					return
				}
				s := open(t, dir)
				got := world(t, s, true)
				if got != old && got != done {
					t.Errorf("killed at step %d:\n%sold:\n%snew:\n%s", step, got, old, done)
				}
				sawOld, sawNew = sawOld || got == old, sawNew || got == done
				checkTmpEmpty(t, s)
				// And it goes on from there.
				if v := mustPut(t, s, "lab", "after"); got == done && op == "import" && v.Ref != ref("lab@4") {
					t.Errorf("next version after step %d is %v", step, v.Ref)
				}
			}
		})
	}
}

// runCrash says whether the process was killed, rather than ending by itself.
func runCrash(t *testing.T, op string, step int, dir string) bool {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), fmt.Sprintf("RUBUS_CRASH=%s %d", op, step), "RUBUS_CRASH_DIR="+dir)
	out, err := c.CombinedOutput()
	if err == nil {
		return false
	}
	if ws := c.ProcessState.String(); ws != "signal: killed" {
		t.Fatalf("%s at step %d: %v\n%s", op, step, err, out)
	}
	return true
}

// What a living process makes stays while others open the store.
func TestOpenLeavesTheLivingAlone(t *testing.T) {
	s := open(t, t.TempDir())
	p, err := s.Begin(t.Context())
	must(t, err)
	must(t, unix.Mkdirat(p.Tree(), "mine", 0o700))
	other := open(t, s.Dir())
	if _, err := other.GC(t.Context(), noUses); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.Tree(), "mine", &st, 0); err != nil || st.Nlink == 0 {
		t.Errorf("a live import was swept: %v", err)
	}
	must(t, p.Abort())
	must(t, p.Abort())
	checkTmpEmpty(t, s)
}

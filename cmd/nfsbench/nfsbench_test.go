package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The servers are this program, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "respond") {
		if err := run(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestGoals(t *testing.T) {
	half := func(cpu float64, p99 time.Duration, mb float64) []figure {
		return []figure{{CPU: cpu, P99: p99, MBPerSec: mb}}
	}
	all := &results{closed: figures{
		"GETATTR":    {"rubus": half(1, 10, 0), "ganesha": half(10, 11, 0)},
		"WRITE-128K": {"rubus": half(61, 30, 100), "ganesha": half(100, 10, 100)},
		"READ-1M":    {"rubus": half(13, 10, 200), "ganesha": half(100, 20, 100), "sendfile": half(10, 10, 100)},
		"LOOKUP":     {"rubus": half(1, 10, 0)},
	}, paced: figures{
		"GETATTR": {"rubus": half(1, 12, 0), "ganesha": half(10, 10, 0)},
		"READ-1M": {"rubus": half(1, 5, 0), "ganesha": half(10, 10, 0)},
	}}
	var b strings.Builder
	printGoals(&b, all)
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"| GETATTR | CPU of ganesha's | 0.10 | 0.10 | met |",
		"| WRITE-128K | CPU of ganesha's | 0.50 | 0.61 | missed |",
		"| READ-1M | CPU of sendfile's | 1.20 | 1.30 | missed |",
		"| READ-1M | ganesha's MB/s of ours | 1.00 | 0.50 | met |",
		"| GETATTR | p99 at ganesha's rate | 1.00 | 1.20 | missed |",
		"| READ-1M | p99 at ganesha's rate | 1.00 | 0.50 | met |",
		"| GETATTR | p99 of ganesha's | 1.00 | 0.91 | met |",
		"| READ-1M | p99 of ganesha's | 1.00 | 0.50 | met |",
		"| WRITE-128K | p99 of ganesha's | 1.00 | 3.00 | missed |",
		"5 of 9 goals met.",
	}
	if got = slices.DeleteFunc(got, func(l string) bool {
		return l == "" || strings.HasPrefix(l, "|---") || strings.HasPrefix(l, "| goal")
	}); !slices.Equal(got, want) {
		t.Errorf("goals are\n%s", strings.Join(got, "\n"))
	}
}

// Every operation is answered by our server, and measured. How fast is for
// scripts/bench to say.
func TestEveryOperation(t *testing.T) {
	o := &options{dir: t.TempDir(), run: t.TempDir(), conns: 2, window: 4, pace: 0.5, time: 20 * time.Millisecond}
	all := newResults()
	if err := measure(t.Context(), o, ours(o), map[string]float64{}, all); err != nil {
		t.Fatal(err)
	}
	var closed, paced strings.Builder
	printTable(&closed, all.closed)
	printPaced(&paced, all)
	for _, op := range names() {
		for name, f := range map[string][]figure{
			"rubus": all.closed[op]["rubus"], "bare": all.closed[op]["bare"], "rubus, paced": all.paced[op]["rubus"], "bare, paced": all.paced[op]["bare"],
		} {
			if len(f) != 1 || f[0].OpsPerSec <= 0 || f[0].CPU <= 0 || f[0].LoadCPU <= 0 || f[0].P99 < f[0].P50 {
				t.Errorf("%s of %s: %+v", op, name, f)
			}
		}
		// A part of the load that is closed; without another server, of our own.
		if c, p := all.closed[op]["rubus"], all.paced[op]["rubus"]; len(c)+len(p) == 2 && p[0].OpsPerSec > 0.7*c[0].OpsPerSec {
			t.Errorf("%s is paced at %.0f a second, and was made %.0f times: not half as often", op, p[0].OpsPerSec, c[0].OpsPerSec)
		}
		if !strings.Contains(closed.String(), op) || !strings.Contains(paced.String(), op) {
			t.Errorf("%s is not in both tables", op)
		}
	}
}

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rubus/nfsexport/nfsload"
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
	}, beside: figures{
		"GETATTR+1": {"rubus": half(0, 9, 0), "ganesha": half(0, 10, 0)},
		"GETATTR+8": {"rubus": half(0, 14, 0), "ganesha": half(0, 10, 0)},
		"READ-4K+8": {"rubus": half(0, 1, 0)},
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
		"| GETATTR+1 | p99 beside writers | 1.00 | 0.90 | met |",
		"| GETATTR+8 | p99 beside writers | 1.00 | 1.40 | missed |",
		"6 of 11 goals met.",
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
	all, rates := newResults(), map[string]float64{}
	if err := measure(t.Context(), o, ours(o), rates, all); err != nil {
		t.Fatal(err)
	}
	var closed, paced, beside, lines strings.Builder
	printTable(&closed, all.closed)
	printPaced(&paced, all.paced)
	printBeside(&beside, all.beside)
	if err := printJSON(&lines, all); err != nil {
		t.Fatal(err)
	}
	for _, op := range names() {
		for name, f := range map[string][]figure{
			"rubus": all.closed[op]["rubus"], "bare": all.closed[op]["bare"], "rubus, paced": all.paced[op]["rubus"], "bare, paced": all.paced[op]["bare"],
		} {
			if len(f) != 1 || f[0].OpsPerSec <= 0 || f[0].CPU <= 0 || f[0].LoadCPU <= 0 || f[0].P99 < f[0].P50 {
				t.Errorf("%s of %s: %+v", op, name, f)
			}
		}
		// A part of the load that is closed; without another server, of our own. Where a
		// run has a few calls, one more or less is a large part of them.
		few := rates[op]*o.time.Seconds() < 20
		if c, p := all.closed[op]["rubus"], all.paced[op]["rubus"]; !few && len(c)+len(p) == 2 && p[0].OpsPerSec > 0.7*c[0].OpsPerSec {
			t.Errorf("%s is paced at %.0f a second, and was made %.0f times: not half as often", op, p[0].OpsPerSec, c[0].OpsPerSec)
		}
		if !strings.Contains(closed.String(), op) || !strings.Contains(paced.String(), op) {
			t.Errorf("%s is not in both tables", op)
		}
	}
	for _, op := range besideNames() {
		f := all.beside[op]["rubus"]
		if len(f) != 1 || f[0].OpsPerSec <= 0 || f[0].LoadCPU <= 0 || f[0].P50 <= 0 || f[0].P99 < f[0].P50 || f[0].Writes <= 0 {
			t.Errorf("%s: %+v", op, f)
		}
		if !strings.Contains(beside.String(), op) {
			t.Errorf("%s is not in its table", op)
		}
	}
	want := 0
	for _, load := range []figures{all.closed, all.paced, all.beside} {
		for _, of := range load {
			want += len(of)
		}
	}
	if n := strings.Count(lines.String(), "\n"); n != want {
		t.Errorf("%d lines of JSON, want one for each load, operation and server: %d", n, want)
	}
}

// Every other round begins with the other server, and both of a round have the same pace:
// that of the first server, of the round that it began last.
func TestInTurn(t *testing.T) {
	for _, c := range []struct {
		name    string
		servers []string
		want    string // server, and the round in which the rate was set
	}{
		{"two", []string{"a", "b"}, "a0 b0 b0 a0 a2 b2 b2 a2 a4 b4"},
		{"one", []string{"a"}, "a0 a1 a2 a3 a4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var servers []serverKind
			for _, name := range c.servers {
				servers = append(servers, serverKind{name: name})
			}
			var got []string
			if err := inTurn(5, servers, func(round int, k serverKind, rates map[string]float64) error {
				if _, ok := rates["NULL"]; !ok { // as measure does
					rates["NULL"] = float64(round)
				}
				got = append(got, fmt.Sprintf("%s%.0f", k.name, rates["NULL"]))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("in turn are %s, want %s", got, c.want)
			}
		})
	}
}

// A writer goes on when its WRITE is on the disk, whole.
func TestIsOnDisk(t *testing.T) {
	answer := func(status uint32, count, how uint32) *nfsload.Reply {
		b := binary.BigEndian.AppendUint32(nil, status)
		b = binary.BigEndian.AppendUint32(b, 0) // no attributes before
		b = binary.BigEndian.AppendUint32(b, 0) // and none after
		b = binary.BigEndian.AppendUint32(b, count)
		b = binary.BigEndian.AppendUint32(b, how)
		return &nfsload.Reply{Accepted: true, Results: b}
	}
	for _, c := range []struct {
		name string
		r    *nfsload.Reply
		ok   bool
	}{
		{"it is", answer(0, 4096, 2), true},
		{"its data only", answer(0, 4096, 1), false},
		{"in memory", answer(0, 4096, 0), false},
		{"less of it", answer(0, 4095, 2), false},
		{"failed", answer(28, 4096, 2), false},
		{"refused", &nfsload.Reply{Results: answer(0, 4096, 2).Results}, false},
		{"cut off", &nfsload.Reply{Accepted: true, Results: answer(0, 4096, 2).Results[:16]}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := isOnDisk(c.r); (err == nil) != c.ok {
				t.Errorf("%v, want that it is on the disk: %v", err, c.ok)
			}
		})
	}
}

// The help names every operation.
func TestUsage(t *testing.T) {
	words := strings.FieldsFunc(usage, func(r rune) bool { return strings.ContainsRune(" \n,;:.", r) })
	for _, op := range slices.Concat(names(), besideNames()) {
		if !slices.Contains(words, op) {
			t.Errorf("the help does not say %s", op)
		}
	}
}

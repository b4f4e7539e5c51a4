package main

import (
	"fmt"
	"io"
	"time"
)

// goal is what our server is to reach in an operation.
type goal struct {
	op   string
	what string
	// most is the most that got may be.
	most float64
	// got gives the number, of what each server needed; whose is missing is zero.
	got func(our, ganesha, sendfile figure) float64
}

// goals are ratios of one run: the machine does not matter much for them.
func goals() (all []goal) {
	cpu := func(most float64, ops ...string) {
		for _, op := range ops {
			all = append(all, goal{op, "CPU of ganesha's", most, func(our, ganesha, _ figure) float64 {
				return our.CPU / ganesha.CPU
			}})
		}
	}
	cpu(0.10, "NULL", "GETATTR", "ACCESS", "LOOKUP", "READ-4K")
	cpu(0.25, "WRITE-4K", "LIST-ONCE", "LIST")
	cpu(0.50, "WRITE-128K", "CREATE", "REMOVE")
	all = append(all,
		goal{"READ-1M", "CPU of sendfile's", 1.2, func(our, _, sendfile figure) float64 { return our.CPU / sendfile.CPU }},
		goal{"READ-1M", "ganesha's MB/s of ours", 1, func(our, ganesha, _ figure) float64 { return ganesha.MBPerSec / our.MBPerSec }})
	for _, op := range names() {
		all = append(all, goal{op, "p99 of ganesha's", 1, func(our, ganesha, _ figure) float64 {
			return float64(our.P99) / float64(max(ganesha.P99, time.Nanosecond))
		}})
	}
	return all
}

// printGoals prints a line for each goal that was measured, and says how many were
// met.
func printGoals(w io.Writer, all figures) {
	met, n := 0, 0
	for _, g := range goals() {
		our, ganesha, sendfile := all[g.op]["rubus"], all[g.op]["ganesha"], all[g.op]["sendfile"]
		if len(our) == 0 || len(ganesha) == 0 {
			continue
		}
		var bare figure
		if len(sendfile) > 0 {
			bare = middle(sendfile)
		} else if g.what == "CPU of sendfile's" {
			continue
		}
		if n == 0 {
			fmt.Fprintf(w, "\n| %-11s | %-22s | %5s | %5s | %-6s |\n|---|---|--:|--:|---|\n", "goal", "as a part of", "most", "is", "")
		}
		n++
		got, word := g.got(middle(our), middle(ganesha), bare), "missed"
		if got <= g.most {
			word = "met"
			met++
		}
		fmt.Fprintf(w, "| %-11s | %-22s | %5.2f | %5.2f | %-6s |\n", g.op, g.what, g.most, got, word)
	}
	if n > 0 {
		fmt.Fprintf(w, "\n%d of %d goals met.\n", met, n)
	}
}

package main

import (
	"fmt"
	"io"
)

// goal is what our server is to reach in an operation.
type goal struct {
	op   string
	what string
	// most is the most that got may be.
	most float64
	// got gives the number, of what each server needed; whose is missing is zero.
	got func(our, ganesha, sendfile figure) float64
	// of gives the load's figures; nil: those of the closed one.
	of func(*results) figures
}

// goals are ratios of one run: the machine does not matter much for them.
func goals() (all []goal) {
	cpu := func(most float64, ops ...string) {
		for _, op := range ops {
			all = append(all, goal{op: op, what: "CPU of ganesha's", most: most, got: func(our, ganesha, _ figure) float64 {
				return our.CPU / ganesha.CPU
			}})
		}
	}
	cpu(0.10, "NULL", "GETATTR", "ACCESS", "LOOKUP", "READ-4K")
	cpu(0.25, "WRITE-4K", "LIST-ONCE", "LIST-NEXT", "LIST")
	cpu(0.50, "WRITE-128K", "CREATE", "REMOVE")
	all = append(all,
		goal{op: "READ-1M", what: "CPU of sendfile's", most: 1.2, got: func(our, _, sendfile figure) float64 { return our.CPU / sendfile.CPU }},
		goal{op: "READ-1M", what: "ganesha's MB/s of ours", most: 1, got: func(our, ganesha, _ figure) float64 { return ganesha.MBPerSec / our.MBPerSec }})
	p99 := func(our, ganesha, _ figure) float64 { return ratio(our.P99, ganesha.P99) }
	for _, op := range names() {
		all = append(all, goal{op: op, what: "p99 at ganesha's rate", most: 1, got: p99, of: func(r *results) figures { return r.paced }})
	}
	for _, op := range names() {
		all = append(all, goal{op: op, what: "p99 of ganesha's", most: 1, got: p99})
	}
	for _, op := range besideNames() {
		all = append(all, goal{op: op, what: "p99 beside writers", most: 1, got: p99, of: func(r *results) figures { return r.beside }})
	}
	return all
}

// printGoals prints a line for each goal that was measured, and says how many were
// met.
func printGoals(w io.Writer, res *results) {
	met, n := 0, 0
	for _, g := range goals() {
		all := res.closed
		if g.of != nil {
			all = g.of(res)
		}
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

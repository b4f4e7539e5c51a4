package main

import (
	"fmt"
	"io"
)

// goals are what was aimed at, and what came of it.
type goals []goal

type goal struct {
	what     string
	is, most float64
}

func (g *goals) add(what string, is, most float64) { *g = append(*g, goal{what, is, most}) }

// storm holds a storm of rubus against its goals.
func (g *goals) storm(r storm) {
	if r.boards < manyBoards {
		return
	}
	g.add(fmt.Sprintf("%d boards: CPU seconds of each boot", r.boards), r.cpu.Seconds(), mostCPU)
	if r.share > 0 {
		g.add(fmt.Sprintf("%d boards: the slowest, of its fair share", r.boards), r.share, mostShare)
	}
	g.add(fmt.Sprintf("%d boards: MB of memory", r.boards), float64(r.after.rss>>20), mostMemory)
}

// print prints a line for each goal, and how many were met.
func (g goals) print(w io.Writer) {
	if len(g) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| %-44s | %7s | %7s | %-6s |\n|---|--:|--:|---|\n", "goal", "most", "is", "")
	met := 0
	for _, x := range g {
		word := "missed"
		if x.is <= x.most {
			word = "met"
			met++
		}
		fmt.Fprintf(w, "| %-44s | %7.2f | %7.2f | %-6s |\n", x.what, x.most, x.is, word)
	}
	fmt.Fprintf(w, "\n%d of %d goals met.\n", met, len(g))
}

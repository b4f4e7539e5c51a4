package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// middle gives the medians of several rounds.
func middle(rounds []figure) figure {
	return figure{
		OpsPerSec: median(rounds, func(f figure) float64 { return f.OpsPerSec }),
		MBPerSec:  median(rounds, func(f figure) float64 { return f.MBPerSec }),
		P50:       median(rounds, func(f figure) time.Duration { return f.P50 }),
		P99:       median(rounds, func(f figure) time.Duration { return f.P99 }),
		CPU:       median(rounds, func(f figure) float64 { return f.CPU }),
		LoadCPU:   median(rounds, func(f figure) float64 { return f.LoadCPU }),
		Writes:    median(rounds, func(f figure) float64 { return f.Writes }),
	}
}

func median[T cmp.Ordered](rounds []figure, of func(figure) T) T {
	var all []T
	for _, f := range rounds {
		all = append(all, of(f))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func servers() []string { return []string{"rubus", "ganesha", "bare", "sendfile", "calls"} }

// printTable prints a row per operation and server, as Markdown takes it. The last
// column says what our processor time is as a multiple of theirs; in our own row, how
// many microseconds are neither the bare responder's nor the system calls'.
func printTable(w io.Writer, all figures) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "| %-11s | %-8s | %7s | %6s | %7s | %7s | %7s | %7s | %7s |\n",
		"operation", "server", "ops/s", "MB/s", "p50 us", "p99 us", "load us", "CPU us", "rubus =")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|--:|--:|")
	for _, op := range names() {
		our := all[op]["rubus"]
		for _, server := range servers() {
			rounds := all[op][server]
			if len(rounds) == 0 {
				continue
			}
			f := middle(rounds)
			mb, times := "", ""
			if server == "calls" {
				fmt.Fprintf(w, "| %-11s | %-8s | %7s | %6s | %7s | %7s | %7s | %7.2f | %7s |\n", op, server, "", "", "", "", "", f.CPU, "")
				continue
			}
			if f.MBPerSec > 0 {
				mb = fmt.Sprintf("%.0f", f.MBPerSec)
			}
			if server != "rubus" && len(our) > 0 {
				times = fmt.Sprintf("%.2f x", middle(our).CPU/f.CPU)
			}
			if bare := all[op]["bare"]; server == "rubus" && len(bare) > 0 {
				over := f.CPU - middle(bare).CPU
				if calls := all[op]["calls"]; len(calls) > 0 {
					over -= middle(calls).CPU
				}
				times = fmt.Sprintf("%+.2f", over)
			}
			fmt.Fprintf(w, "| %-11s | %-8s | %7.0f | %6s | %7.0f | %7.0f | %7.2f | %7.2f | %7s |\n",
				op, server, f.OpsPerSec, mb, us(f.P50), us(f.P99), f.LoadCPU, f.CPU, times)
		}
	}
}

// printPaced prints a row per operation and server of the paced load. Our own says what
// part of theirs our slowest in a hundred takes.
func printPaced(w io.Writer, all figures) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| %-11s | %-8s | %7s | %7s | %7s | %7s | %7s | %7s |\n",
		"paced", "server", "ops/s", "p50 us", "p99 us", "load us", "CPU us", "p99 =")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|--:|")
	for _, op := range names() {
		for _, server := range servers() {
			rounds := all[op][server]
			if len(rounds) == 0 {
				continue
			}
			f, p99 := middle(rounds), ""
			if theirs := all[op]["ganesha"]; server == "rubus" && len(theirs) > 0 {
				p99 = fmt.Sprintf("%.2f x", ratio(f.P99, middle(theirs).P99))
			}
			fmt.Fprintf(w, "| %-11s | %-8s | %7.0f | %7.0f | %7.0f | %7.2f | %7.2f | %7s |\n",
				op, server, f.OpsPerSec, us(f.P50), us(f.P99), f.LoadCPU, f.CPU, p99)
		}
	}
}

// ratio is ours as a part of theirs.
func ratio(our, theirs time.Duration) float64 {
	return float64(our) / float64(max(theirs, time.Nanosecond))
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// printJSON prints a line per load, operation and server.
func printJSON(w io.Writer, all *results) error {
	enc := json.NewEncoder(w)
	for _, load := range []struct {
		name string
		of   figures
	}{{"closed", all.closed}, {"paced", all.paced}, {"beside", all.beside}} {
		for _, op := range slices.Concat(names(), besideNames()) {
			for _, server := range servers() {
				if rounds := load.of[op][server]; len(rounds) > 0 {
					err := enc.Encode(struct {
						Load      string `json:"load"`
						Operation string `json:"operation"`
						Server    string `json:"server"`
						figure
					}{load.name, op, server, middle(rounds)})
					if err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

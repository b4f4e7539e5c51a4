package simulatecmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
)

// manyReport is what a boot of many boards came to, for --json.
type manyReport struct {
	OK      bool   `json:"ok"`
	Verdict string `json:"verdict"`
	// Booted boards have all they need; the times are theirs.
	Booted    int   `json:"booted"`
	MedianMS  int64 `json:"median_ms"`
	SlowestMS int64 `json:"slowest_ms"`
	TookMS    int64 `json:"took_ms"`
	Bytes     int64 `json:"bytes"`
	// ServerCPUMS is the server's, with --standalone.
	ServerCPUMS int64       `json:"server_cpu_ms,omitempty"`
	Boards      []manyBoard `json:"boards"`
	serverLog   string
}

// manyBoard is one of them.
type manyBoard struct {
	Serial string `json:"serial"`
	MAC    string `json:"mac"`
	OK     bool   `json:"ok"`
	TookMS int64  `json:"took_ms"`
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"`
	// Blocks are the round trips of TFTP, and Retries the packets that were
	// sent or came again.
	Blocks  int64  `json:"blocks"`
	Retries int    `json:"retries"`
	Stage   string `json:"stopped_in,omitempty"`
	Error   string `json:"error,omitempty"`
	took    time.Duration
}

// simulateMany powers on many boards at once, each with a card of its own.
func simulateMany(ctx context.Context, g *cli.Globals, f simulateFlags, boards []fakepi.Board) (err error) {
	iface := f.iface
	var r manyReport
	tail, cpu := func() string { return "" }, func() time.Duration { return 0 }
	if f.standalone {
		alone, err := startStandalone(ctx, g, f, boards)
		if err != nil {
			return err
		}
		defer alone.stop()
		ctx, iface = alone.ctx, alone.bridge
		tail, cpu = alone.tail, alone.cpu
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, &timeoutError{f.timeout})
	defer cancel()
	links := make([]nic.Link, 0, len(boards))
	defer func() {
		for _, l := range links {
			err = errors.Join(err, l.Close())
		}
	}()
	for range boards {
		l, err := nic.Open(iface)
		if err != nil {
			return ui.Hint(err, "see \"ip link\" for the interfaces there are")
		}
		links = append(links, l)
	}
	if !g.JSON {
		fmt.Fprintf(g.Stdout, "%d × %s, serials %s to %s\n", len(boards), boards[0].Model.Title, boards[0].Serial, boards[len(boards)-1].Serial)
		fmt.Fprintf(g.Stdout, "%-8s  %9s  %5s  %12s  %7s  %s\n", "BOARD", "SECONDS", "FILES", "BYTES", "RETRIES", "RESULT")
	}
	r.Boards = make([]manyBoard, len(boards))
	var running sync.WaitGroup
	var printing sync.Mutex
	begin, used := time.Now(), cpu()
	for i, b := range boards {
		running.Go(func() {
			res, err := fakepi.Run(ctx, b, f.options(links[i], b))
			r.Boards[i] = manyBoardOf(res, err, time.Since(begin))
			if !g.JSON {
				printing.Lock()
				defer printing.Unlock()
				fmt.Fprintln(g.Stdout, r.Boards[i].line())
			}
		})
	}
	running.Wait()
	r.serverLog, r.ServerCPUMS = tail(), (cpu() - used).Milliseconds()
	return r.finish(g, time.Since(begin))
}

func manyBoardOf(res *fakepi.Result, err error, took time.Duration) manyBoard {
	m := manyBoard{
		Serial: res.Board.Serial.String(), MAC: res.Board.MAC.String(), OK: err == nil,
		TookMS: took.Milliseconds(), took: took, Files: res.Files, Bytes: res.Bytes, Blocks: res.Blocks,
	}
	for _, e := range res.Events {
		m.Retries += e.Retries
	}
	if err != nil {
		m.Error = err.Error()
		if stop, ok := errors.AsType[*fakepi.StopError](err); ok {
			m.Stage = stop.Stage
		}
	}
	return m
}

// line is a board's row; errors are at its end, whatever their length.
func (m manyBoard) line() string {
	result := "ok"
	if !m.OK {
		result = m.Error
	}
	return fmt.Sprintf("%-8s  %9.3f  %5d  %12s  %7d  %s", m.Serial, m.took.Seconds(), m.Files, thousands(m.Bytes), m.Retries, result)
}

// finish sums up. Some boards that did not boot are an error.
func (r *manyReport) finish(g *cli.Globals, took time.Duration) error {
	var times []time.Duration
	for _, b := range r.Boards {
		r.Bytes += b.Bytes
		if b.OK {
			times = append(times, b.took)
		}
	}
	slices.Sort(times)
	r.Booted, r.TookMS = len(times), took.Milliseconds()
	r.OK = r.Booted == len(r.Boards)
	r.Verdict = fmt.Sprintf("%d of %d boards have all that they need to boot", r.Booted, len(r.Boards))
	if r.Booted > 0 {
		median, slowest := times[len(times)/2], times[len(times)-1]
		r.MedianMS, r.SlowestMS = median.Milliseconds(), slowest.Milliseconds()
		r.Verdict += fmt.Sprintf("; median %.1f s, slowest %.1f s, %.1f MB/s together",
			median.Seconds(), slowest.Seconds(), float64(r.Bytes)/1e6/took.Seconds())
		if r.ServerCPUMS > 0 {
			r.Verdict += fmt.Sprintf(", %.2f s of the server's CPU for each", float64(r.ServerCPUMS)/1000/float64(len(r.Boards)))
		}
	}
	var err error
	if !r.OK {
		err = errors.New(r.Verdict)
	}
	switch {
	case g.JSON:
		return errors.Join(g.PrintJSON(r), err)
	case err == nil:
		fmt.Fprintln(g.Stdout, "ok: "+r.Verdict)
	case r.serverLog != "":
		err = ui.Hint(err, "the server's last lines:\n"+r.serverLog)
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfsload"
)

// figure is what one server needed for one operation.
type figure struct {
	OpsPerSec float64       `json:"ops_per_second"`
	MBPerSec  float64       `json:"mb_per_second"` // of file data
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	CPU       float64       `json:"cpu_us,omitempty"` // per call, or per entry of a listing
	LoadCPU   float64       `json:"load_cpu_us"`      // the same of the load
	// Writes is how many WRITEs a second were brought to the disk meanwhile.
	Writes float64 `json:"writes_per_second,omitempty"`
}

// results are those of all loads: beside is the paced one beside writers.
type results struct {
	closed, paced, beside figures
	// first: the paced load ran before all else that wanted a processor.
	first bool
}

func newResults() *results {
	return &results{closed: figures{}, paced: figures{}, beside: figures{}, first: true}
}

// figures are those of all rounds, by operation and server.
type figures map[string]map[string][]figure

func (f figures) add(op, server string, v figure) {
	if f[op] == nil {
		f[op] = map[string][]figure{}
	}
	f[op][server] = append(f[op][server], v)
}

// compare runs all servers, in turn, several rounds.
func compare(ctx context.Context, o *options) error {
	servers := []serverKind{ours(o)}
	if o.ganesha != "" {
		g, err := ganesha(o)
		if err != nil {
			return err
		}
		servers = []serverKind{g, servers[0]} // the first sets the pace
	}
	all := newResults()
	err := inTurn(o.rounds, servers, func(round int, k serverKind, rates map[string]float64) error {
		fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, k.name)
		if err := measure(ctx, o, k, rates, all); err != nil {
			return fmt.Errorf("measuring %s: %w", k.name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(os.Stdout, all)
	}
	printTable(os.Stdout, all.closed)
	printPaced(os.Stdout, all.paced)
	printBeside(os.Stdout, all.beside)
	if !all.first {
		fmt.Println("\nThe paced load had no right to run before all else: its own waiting is in its times.")
	}
	printGoals(os.Stdout, all)
	return nil
}

// inTurn calls f for each server in each round, and every other round the other way round
// (A B, B A, A B): so none always finds the disk as the other left it. The first sets the
// pace: rates are empty when it begins a round, and are kept for the round that it ends.
func inTurn(rounds int, servers []serverKind, f func(round int, k serverKind, rates map[string]float64) error) error {
	rates := map[string]float64{}
	for round := range rounds {
		order := slices.Clone(servers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		if order[0].name == servers[0].name {
			clear(rates)
		}
		for _, k := range order {
			if err := f(round, k, rates); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure runs one server through all operations; beside ours also a responder
// that gives answers of the same sizes. It paces each operation at its rate, in calls a
// second, and sets those that are not set.
func measure(ctx context.Context, o *options, k serverKind, rates map[string]float64, all *results) error {
	w, err := newWorld(o.dir, o.conns)
	if err != nil {
		return err
	}
	defer w.close()
	log := filepath.Join(o.dir, k.name+".log")
	p, err := k.start(ctx, w, log)
	if err != nil {
		return err
	}
	defer p.stop()
	first, root, next, err := connect(ctx, p, w)
	if err != nil {
		return fmt.Errorf("%w (see %s)", err, log)
	}
	defer first.Close()
	ops, err := operations(first, root, next, o.conns)
	if err != nil {
		return err
	}
	responder, err := start(log, nil, "/proc/self/exe", "respond", w.big)
	if err != nil {
		return err
	}
	defer responder.stop()
	if err := until(ctx, responder, func() error {
		c, err := nfsload.Dial(rawAddr)
		if err == nil {
			err = c.Close()
		}
		return err
	}); err != nil {
		return err
	}
	for _, op := range ops {
		if len(o.only) > 0 && !slices.Contains(o.only, op.name) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o.profile != "" && k.name == "rubus" {
			_ = p.cmd.Process.Signal(unix.SIGUSR1)
		}
		var err error
		if op.writers != nil {
			err = all.measureBeside(o, p, k, &op)
		} else {
			err = all.measureAlone(o, p, k, &op, rates, responder)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
	}
	if o.noBare || k.name != "rubus" {
		return nil
	}
	us, err := ownCalls(w)
	for op, v := range us {
		if len(all.closed[op]) > 0 {
			all.closed.add(op, "calls", figure{CPU: v})
		}
	}
	return err
}

// measureAlone measures an operation with both loads, and for ours what the responder takes.
func (all *results) measureAlone(o *options, p *process, k serverKind, op *operation, rates map[string]float64, responder *process) error {
	res, err := one(o, p, op, dialNFS)
	if err != nil {
		return err
	}
	all.closed.add(op.name, k.name, res.figure)
	if rates[op.name] == 0 {
		rates[op.name] = o.pace * res.rate
	}
	rate := rates[op.name]
	paced, err := onePaced(o, p, op, rate, o.time, dialNFS)
	if err != nil {
		return fmt.Errorf("paced: %w", err)
	}
	all.paced.add(op.name, k.name, paced.figure)
	all.first = all.first && paced.first
	if o.noBare || k.name != "rubus" {
		return nil
	}
	// The same records, to somebody who only moves bytes.
	bare := *op
	bare.load.Once, bare.paced, bare.load.Check = false, nil, func(*nfsload.Reply) error { return nil }
	for name, file := range map[string]int{"bare": 0, "sendfile": op.file} {
		if name == "sendfile" && file == 0 {
			continue
		}
		dial := func() (*nfsload.Conn, error) { return nfsload.DialResponder(rawAddr, res.reply, file) }
		moved, err := one(o, responder, &bare, dial)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all.closed.add(op.name, name, moved.figure)
		if name == "sendfile" {
			continue
		}
		if moved, err = onePaced(o, responder, &bare, rate, o.time, dial); err != nil {
			return fmt.Errorf("%s, paced: %w", name, err)
		}
		all.paced.add(op.name, name, moved.figure)
	}
	return nil
}

func dialNFS() (*nfsload.Conn, error) { return nfsload.Dial(nfsAddr) }

// measured is a figure, and what else came of it.
type measured struct {
	figure
	reply int     // the size of an answer
	rate  float64 // calls a second
	first bool
}

// one measures one operation under a closed load.
func one(o *options, p *process, op *operation, dial func() (*nfsload.Conn, error)) (m measured, err error) {
	err = with(o.conns, dial, func(conns []*nfsload.Conn) (err error) {
		if !op.load.Once { // caches are warm, connections have their windows
			if _, err := nfsload.Run(conns, o.window, &op.load, o.time/8); err != nil {
				return err
			}
		}
		m, err = op.figure(p, func() (*nfsload.Result, error) {
			return nfsload.Run(conns, o.window, &op.load, o.time)
		})
		return err
	})
	return m, err
}

// onePaced measures one operation for d under a load of so many calls a second.
func onePaced(o *options, p *process, op *operation, rate float64, d time.Duration, dial func() (*nfsload.Conn, error)) (m measured, err error) {
	err = with(o.conns, dial, func(conns []*nfsload.Conn) (err error) {
		load := op.paced
		if load == nil {
			load = &op.load
		}
		m, err = op.figure(p, func() (*nfsload.Result, error) {
			return nfsload.Pace(conns, o.window, rate, load, d)
		})
		return err
	})
	return m, err
}

// with makes n connections for f.
func with(n int, dial func() (*nfsload.Conn, error), f func([]*nfsload.Conn) error) (err error) {
	var conns []*nfsload.Conn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range n {
		c, err := dial()
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	return f(conns)
}

// figure makes one of what p needed while run ran.
func (op *operation) figure(p *process, run func() (*nfsload.Result, error)) (m measured, err error) {
	before, err := p.cpu()
	if err != nil {
		return m, err
	}
	res, err := run()
	if err != nil {
		return m, err
	}
	after, err := p.cpu()
	if err != nil || res.Calls == 0 {
		return m, errors.Join(err, errors.New("no call was made"))
	}
	m.reply, m.first = int(res.Bytes/int64(res.Calls)), res.First
	n := float64(res.Calls)
	m.rate = n / res.Elapsed.Seconds()
	m.MBPerSec = m.rate * float64(op.data) / 1e6
	if op.units > 0 {
		n *= op.units
	}
	m.OpsPerSec = n / res.Elapsed.Seconds()
	m.P50, m.P99 = res.P50, res.P99
	m.CPU = float64((after - before).Microseconds()) / n
	m.LoadCPU = float64(res.CPU.Nanoseconds()) / 1e3 / n
	return m, nil
}

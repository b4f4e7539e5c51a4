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
	CPU       float64       `json:"cpu_us"` // per call, or per entry of a listing
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
		servers = append(servers, g)
	}
	all := figures{}
	for round := range o.rounds {
		for _, k := range servers {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, k.name)
			if err := measure(ctx, o, k, all); err != nil {
				return fmt.Errorf("measuring %s: %w", k.name, err)
			}
		}
	}
	if o.json {
		return printJSON(os.Stdout, all)
	}
	printTable(os.Stdout, all)
	printGoals(os.Stdout, all)
	return nil
}

// measure runs one server through all operations; beside ours also a responder
// that gives answers of the same sizes.
func measure(ctx context.Context, o *options, k serverKind, all figures) error {
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
	first, root, err := connect(ctx, p, w.root)
	if err != nil {
		return fmt.Errorf("%w (see %s)", err, log)
	}
	defer first.Close()
	ops, err := operations(first, root, o.conns)
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
		res, err := one(o, p, &op, func() (*nfsload.Conn, error) { return nfsload.Dial(nfsAddr) })
		if err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
		all.add(op.name, k.name, res.figure)
		if o.noBare || k.name != "rubus" {
			continue
		}
		// The same records, to somebody who only moves bytes.
		bare := op
		bare.load.Once, bare.load.Check = false, func(*nfsload.Reply) error { return nil }
		for name, file := range map[string]int{"bare": 0, "sendfile": op.file} {
			if name == "sendfile" && file == 0 {
				continue
			}
			moved, err := one(o, responder, &bare, func() (*nfsload.Conn, error) {
				return nfsload.DialResponder(rawAddr, res.reply, file)
			})
			if err != nil {
				return fmt.Errorf("%s, %s: %w", op.name, name, err)
			}
			all.add(op.name, name, moved.figure)
		}
	}
	if o.noBare || k.name != "rubus" {
		return nil
	}
	us, err := ownCalls(w)
	for op, v := range us {
		if len(all[op]) > 0 {
			all.add(op, "calls", figure{CPU: v})
		}
	}
	return err
}

// measured is a figure and the size of an answer.
type measured struct {
	figure
	reply int
}

// one measures one operation.
func one(o *options, p *process, op *operation, dial func() (*nfsload.Conn, error)) (m measured, err error) {
	var conns []*nfsload.Conn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range o.conns {
		c, err := dial()
		if err != nil {
			return m, err
		}
		conns = append(conns, c)
	}
	if !op.load.Once { // caches are warm, connections have their windows
		if _, err := nfsload.Run(conns, o.window, &op.load, o.time/8); err != nil {
			return m, err
		}
	}
	before, err := p.cpu()
	if err != nil {
		return m, err
	}
	res, err := nfsload.Run(conns, o.window, &op.load, o.time)
	if err != nil {
		return m, err
	}
	after, err := p.cpu()
	if err != nil || res.Calls == 0 {
		return m, errors.Join(err, errors.New("no call was made"))
	}
	m.reply = int(res.Bytes / int64(res.Calls))
	n := float64(res.Calls)
	m.MBPerSec = n * float64(op.data) / 1e6 / res.Elapsed.Seconds()
	if op.units > 0 {
		n *= op.units
	}
	m.OpsPerSec = n / res.Elapsed.Seconds()
	m.P50, m.P99 = res.P50, res.P99
	m.CPU = float64((after - before).Microseconds()) / n
	return m, nil
}

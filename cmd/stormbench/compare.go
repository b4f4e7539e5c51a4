package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// limits are what rubus is to keep to.
const (
	mostCPU     = 0.3  // seconds of a processor for a boot among many
	mostShare   = 2.0  // the slowest board's time, of what a board takes when they boot in turn
	mostMemory  = 200  // MB of the daemon
	mostPrepare = 5.0  // seconds until 1,000 boards have their roots
	manyBoards  = 100  // from which on a storm is held against them
	mostPerPeer = 1.00 // of the processor time of others that do the same
)

// storm is what came of one.
type storm struct {
	boards          int
	median, slowest time.Duration
	firmware, nfs   time.Duration // medians
	cpu             time.Duration // of the server, for each board
	share           float64       // slowest, of the time that they would take in turn; 0: unknown
	bytes           int64         // by TFTP, for each board
	after           used
	retries         int
	calls, extra    int
	differ          int
	first           []string
}

func compare(ctx context.Context, o *options) error {
	total := 1 // and one that is not counted
	for _, n := range o.boards {
		total += n
	}
	services := []func(context.Context, *options, int) (*service, error){startRubus}
	if o.ganesha != "" {
		services = append(services, startOthers)
	}
	fmt.Fprintln(o.out, "| boards | server | median s | slowest s | of which NFS | CPU s each | of a lone board's time, in turn | RSS MB | fds | threads |")
	fmt.Fprintln(o.out, "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
	var bad []error
	cpu := map[int][]float64{} // by boards, of each service
	var g goals
	for i, start := range services {
		if err := os.MkdirAll(o.dir+"/run", 0o700); err != nil {
			return err
		}
		storms, all, err := measure(ctx, o, start, total)
		if err != nil {
			return err
		}
		bad = append(bad, all)
		for _, r := range storms {
			cpu[r.boards] = append(cpu[r.boards], r.cpu.Seconds())
			if i == 0 {
				g.storm(r)
			}
		}
	}
	for _, n := range o.boards {
		if c := cpu[n]; len(c) == 2 && n > 1 {
			g.add(fmt.Sprintf("%d boards: CPU of the others'", n), c[0]/c[1], mostPerPeer)
		}
	}
	g.print(o.out)
	return errors.Join(bad...)
}

// measure runs one service through all storms, and prints a line for each. bad is what
// was found wrong, though it could be measured.
func measure(ctx context.Context, o *options, start func(context.Context, *options, int) (*service, error), boards int) (storms []storm, bad, err error) {
	l, err := newLAN(o.model, o.recording)
	if err != nil {
		return nil, nil, err
	}
	defer l.close()
	s, err := start(ctx, o, boards)
	if err != nil {
		return nil, nil, err
	}
	defer s.stop()
	idle, err := s.used()
	if err != nil {
		return nil, nil, err
	}
	rest := func(when string, u used) {
		fmt.Fprintf(o.out, "| %s | %s | | | | | | %d | %d | %d |\n", when, s.name, u.rss>>20, u.fds, u.threads)
	}
	rest("none yet", idle)
	// The first boot finds nothing in memory: it is not counted.
	if _, err := s.storm(ctx, l, order{First: boards - 1, Boards: 1}); err != nil {
		return nil, nil, err
	}
	var lone time.Duration
	first := 0
	for _, n := range o.boards {
		r, err := s.storm(ctx, l, order{First: first, Boards: n})
		if err != nil {
			return nil, nil, err
		}
		first += n
		if n == 1 {
			lone = r.slowest
		}
		share := "-"
		if n > 1 && lone > 0 {
			r.share = r.slowest.Seconds() / (lone.Seconds() * float64(n))
			share = fmt.Sprintf("%.2f x", r.share)
		}
		storms = append(storms, r)
		fmt.Fprintf(o.out, "| %d | %s | %.2f | %.2f | %.2f | %.3f | %s | %d | %d | %d |\n", n, s.name, r.median.Seconds(), r.slowest.Seconds(), r.nfs.Seconds(),
			r.cpu.Seconds(), share, r.after.rss>>20, r.after.fds, r.after.threads)
		fmt.Fprintf(os.Stderr, "%d boards, %s: %.1f MB by TFTP each, %d packets sent again, %d NFS calls each and %d extra\n",
			n, s.name, float64(r.bytes)/1e6, r.retries, r.calls, r.extra)
		if r.differ > 0 {
			bad = errors.Join(bad, fmt.Errorf("%s: %d answers have another status than the recorded one: %q", s.name, r.differ, r.first))
		}
	}
	if o.after > 0 {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(o.after):
		}
		gone, err := s.used()
		if err != nil {
			return nil, nil, err
		}
		rest("gone for "+o.after.String(), gone)
	}
	return storms, bad, nil
}

// storm has boards boot from the service.
func (s *service) storm(ctx context.Context, l *lan, o order) (r storm, err error) {
	var before used
	all, err := l.storm(ctx, o, func() (err error) {
		before, err = s.used()
		return err
	})
	if err != nil {
		return r, err
	}
	if r.after, err = s.used(); err != nil {
		return r, err
	}
	if err := r.sum(all, r.after.cpu-before.cpu); err != nil {
		return r, fmt.Errorf("%s: %w", s.name, err)
	}
	return r, nil
}

// sum fills r with what came of its boards, and of the time that the server took for all of them.
func (r *storm) sum(all []booted, cpu time.Duration) error {
	var times, firmware, nfs []time.Duration
	for i, b := range all {
		if b.Error != "" {
			return fmt.Errorf("board %d of %d: %s", i, len(all), b.Error)
		}
		times = append(times, b.Firmware+b.NFS)
		firmware, nfs = append(firmware, b.Firmware), append(nfs, b.NFS)
		r.retries += b.Retries
		r.calls, r.bytes = b.Replay.Calls, b.Bytes
		r.extra += b.Replay.Extra
		if r.differ += b.Replay.Differ; len(r.first) == 0 {
			r.first = b.Replay.First
		}
	}
	slices.Sort(times)
	slices.Sort(firmware)
	slices.Sort(nfs)
	middle := len(times) / 2
	r.boards, r.median, r.slowest, r.firmware, r.nfs = len(times), times[middle], times[len(times)-1], firmware[middle], nfs[middle]
	r.cpu = cpu / time.Duration(len(times))
	return nil
}

// prepare has boards ask for their first file, and prints what rubus has taken then.
func prepare(ctx context.Context, o *options) error {
	if err := os.MkdirAll(o.dir+"/run", 0o700); err != nil {
		return err
	}
	l, err := newLAN(o.model, o.recording)
	if err != nil {
		return err
	}
	defer l.close()
	s, err := startRubus(ctx, o, o.prepare)
	if err != nil {
		return err
	}
	defer s.stop()
	idle, err := s.used()
	if err != nil {
		return err
	}
	played, err := usedBy(l.p.Pid())
	if err != nil {
		return err
	}
	begin := time.Now()
	r, err := s.storm(ctx, l, order{Boards: o.prepare, Ask: true})
	if err != nil {
		return err
	}
	took := time.Since(begin).Seconds()
	playing, err := usedBy(l.p.Pid())
	if err != nil {
		return err
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	fmt.Fprintln(o.out, "| boards with a root | s | CPU ms each | the boards' own | RSS MB before | RSS MB | fds | threads |")
	fmt.Fprintln(o.out, "|--:|--:|--:|--:|--:|--:|--:|--:|")
	fmt.Fprintf(o.out, "| %d | %.1f | %.2f | %.2f | %d | %d | %d | %d |\n", o.prepare, took, each(r.cpu), each((playing-played)/time.Duration(o.prepare)),
		idle.rss>>20, r.after.rss>>20, r.after.fds, r.after.threads)
	var g goals
	g.add(fmt.Sprintf("%d boards: seconds until they have roots", o.prepare), took, mostPrepare)
	g.add(fmt.Sprintf("%d boards: MB of memory", o.prepare), float64(r.after.rss>>20), mostMemory)
	g.print(o.out)
	return nil
}

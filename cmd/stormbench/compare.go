package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// storm is what came of one.
type storm struct {
	boards          int
	median, slowest time.Duration
	firmware, nfs   time.Duration // medians
	cpu             time.Duration // of the server, for each board
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
	for _, start := range services {
		if err := os.MkdirAll(o.dir+"/run", 0o700); err != nil {
			return err
		}
		all, err := measure(ctx, o, start, total)
		if err != nil {
			return err
		}
		bad = append(bad, all)
	}
	return errors.Join(bad...)
}

// measure runs one service through all storms, and prints a line for each. What is
// returned first is what was found wrong, though it could be measured.
func measure(ctx context.Context, o *options, start func(context.Context, *options, int) (*service, error), boards int) (bad, err error) {
	l, err := newLAN(o.model, o.recording)
	if err != nil {
		return nil, err
	}
	defer l.close()
	s, err := start(ctx, o, boards)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	// The first boot finds nothing in memory: it is not counted.
	if _, err := s.storm(ctx, l, order{First: boards - 1, Boards: 1}); err != nil {
		return nil, err
	}
	var lone time.Duration
	first := 0
	for _, n := range o.boards {
		r, err := s.storm(ctx, l, order{First: first, Boards: n})
		if err != nil {
			return nil, err
		}
		first += n
		if n == 1 {
			lone = r.slowest
		}
		share := "-"
		if n > 1 && lone > 0 {
			share = fmt.Sprintf("%.2f x", r.slowest.Seconds()/(lone.Seconds()*float64(n)))
		}
		fmt.Fprintf(o.out, "| %d | %s | %.2f | %.2f | %.2f | %.3f | %s | %d | %d | %d |\n", n, s.name, r.median.Seconds(), r.slowest.Seconds(), r.nfs.Seconds(),
			r.cpu.Seconds(), share, r.after.rss>>20, r.after.fds, r.after.threads)
		fmt.Fprintf(os.Stderr, "%d boards, %s: %.1f MB by TFTP each, %d packets sent again, %d NFS calls each and %d extra\n",
			n, s.name, float64(r.bytes)/1e6, r.retries, r.calls, r.extra)
		if r.differ > 0 {
			bad = errors.Join(bad, fmt.Errorf("%s: %d answers have another status than the recorded one: %q", s.name, r.differ, r.first))
		}
	}
	return bad, nil
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
	var times, firmware, nfs []time.Duration
	for i, b := range all {
		if b.Error != "" {
			return r, fmt.Errorf("%s: board %d of %d: %s", s.name, i, len(all), b.Error)
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
	r.cpu = (r.after.cpu - before.cpu) / time.Duration(len(times))
	return r, nil
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
	begin := time.Now()
	r, err := s.storm(ctx, l, order{Boards: o.prepare, Ask: true})
	if err != nil {
		return err
	}
	fmt.Fprintln(o.out, "| boards with a root | s | CPU ms each | RSS MB before | RSS MB | fds | threads |")
	fmt.Fprintln(o.out, "|--:|--:|--:|--:|--:|--:|--:|")
	fmt.Fprintf(o.out, "| %d | %.1f | %.2f | %d | %d | %d | %d |\n", o.prepare, time.Since(begin).Seconds(), float64(r.cpu.Microseconds())/1000,
		idle.rss>>20, r.after.rss>>20, r.after.fds, r.after.threads)
	return nil
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `Usage: nfsbench [OPTION]... DIR

Runs each server in turn over an overlay that it mounts below DIR, and prints
what each operation costs. For scripts/bench, in namespaces of its own.

  --ganesha TOOLS  what scripts/peer-tools ganesha prints; without: not compared
  --rounds N       how often each server is run (3), in every other round the other
                   one first; the medians are printed
  --time DURATION  of each operation in each round, with each load (1s)
  --pace PART      what a paced load asks of all, as a part of what ganesha managed
                   with all in flight that may be (0.5); without: what rubus did
  --conns N, --window N   connections (4), and calls in flight on each (16)
  --only OP,...    only these operations: NULL, GETATTR, ACCESS, LOOKUP, READ-4K,
                   READ-128K, READ-1M, WRITE-4K, WRITE-128K, CREATE, REMOVE, LIST-ONCE,
                   LIST-NEXT, LIST; and beside one and eight others, each with a WRITE
                   of 4 KiB on its way to the disk at all times, 2,000 paced calls a
                   second: GETATTR+1, GETATTR+8, READ-4K+1, READ-4K+8, READ-128K+1,
                   READ-128K+8
  --no-bare        without the bare responder
  --json           one object per operation and server
  --profile DIR    CPU profiles of our server, one per operation, into DIR

With NFSBENCH_SYNC=1 in the environment rubus brings metadata to disk before it
answers, as it does for boards unless they have sync: false.
`

// options are what the command line says.
type options struct {
	// run is a directory on a tmpfs.
	dir, run, ganesha, profile string
	rounds, conns, window      int
	time                       time.Duration
	only                       []string
	pace                       float64
	json, noBare               bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "nfsbench: error: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	// What it starts itself.
	if len(args) == 4 && args[0] == "serve" {
		return serve(args[1], args[2], args[3])
	}
	if len(args) == 2 && args[0] == "respond" {
		return respond(args[1])
	}
	var o options
	var only string
	fs := flag.NewFlagSet("nfsbench", flag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	fs.StringVar(&o.ganesha, "ganesha", "", "")
	fs.IntVar(&o.rounds, "rounds", 3, "")
	fs.DurationVar(&o.time, "time", time.Second, "")
	fs.Float64Var(&o.pace, "pace", 0.5, "")
	fs.IntVar(&o.conns, "conns", 4, "")
	fs.IntVar(&o.window, "window", 16, "")
	fs.StringVar(&only, "only", "", "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.BoolVar(&o.noBare, "no-bare", false, "")
	fs.StringVar(&o.profile, "profile", "", "")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil || fs.NArg() != 1:
		os.Exit(2)
	}
	if only != "" {
		o.only = strings.Split(strings.ToUpper(only), ",")
	}
	known := slices.Concat(names(), besideNames())
	for _, op := range o.only {
		if !slices.Contains(known, op) {
			return fmt.Errorf("no operation %q; there are %s", op, strings.Join(known, ", "))
		}
	}
	if slices.Contains(o.only, "LIST-NEXT") { // what another board listed before
		o.only = append(o.only, "LIST-ONCE")
	}
	o.dir, o.run = fs.Arg(0), "/run"
	if o.rounds < 1 || o.conns < 1 || o.window < 1 {
		return errors.New("--rounds, --conns and --window are 1 at least")
	}
	if o.pace <= 0 {
		return errors.New("--pace is more than 0")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return compare(ctx, &o)
}

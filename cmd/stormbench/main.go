package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `Usage: stormbench [OPTION]... DIR
       stormbench record CAPTURE RECORDING

Has boards boot at once from each server in turn: DHCP and the firmware's files by
TFTP, then the NFS calls of a recorded boot, each board on an export of its own. For
scripts/bench, in namespaces of its own; DIR is on the images' file system.

  --recording FILE   what "stormbench record" made of a capture (rubus simulate --capture)
  --rubus PROGRAM    the command
  --state DIR        a state directory with the image "lab"
  --ganesha TOOLS    what scripts/peer-tools ganesha prints; without: rubus alone
  --prepare N        instead: so many boards ask for their first file alone, for which
                     rubus makes their roots
  --boards N,...     boards at once (1,100); each time new ones
  --after DURATION   tell, too, what the server holds so long after the last boards
                     (0: do not wait)
  --model MODEL      which board (4b)
  --sync             rubus brings metadata to disk before it answers, as is usual;
                     without: it does as ganesha does
`

// options are what the command line says.
type options struct {
	out                                          io.Writer // for the table
	dir, recording, rubus, state, ganesha, model string
	boards                                       []int
	prepare                                      int
	after                                        time.Duration
	sync                                         bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "stormbench: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "record":
		return record(args[1], args[2])
	case len(args) == 3 && args[0] == "play": // what it starts itself
		return play(ctx, args[1], args[2])
	}
	o := options{out: os.Stdout}
	var boards string
	fs := flag.NewFlagSet("stormbench", flag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	fs.StringVar(&o.recording, "recording", "", "")
	fs.StringVar(&o.rubus, "rubus", "", "")
	fs.StringVar(&o.state, "state", "", "")
	fs.StringVar(&o.ganesha, "ganesha", "", "")
	fs.StringVar(&o.model, "model", "4b", "")
	fs.StringVar(&boards, "boards", "1,100", "")
	fs.IntVar(&o.prepare, "prepare", 0, "")
	fs.DurationVar(&o.after, "after", 0, "")
	fs.BoolVar(&o.sync, "sync", false, "")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil || fs.NArg() != 1:
		os.Exit(2)
	}
	o.dir = fs.Arg(0)
	for w := range strings.SplitSeq(boards, ",") {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 || n > mostBoards {
			return fmt.Errorf("--boards %q: want numbers from 1 to %d", boards, mostBoards)
		}
		o.boards = append(o.boards, n)
	}
	if o.prepare < 0 || o.prepare > mostBoards {
		return fmt.Errorf("--prepare %d: want at most %d", o.prepare, mostBoards)
	}
	if o.prepare > 0 {
		return prepare(ctx, &o)
	}
	return compare(ctx, &o)
}

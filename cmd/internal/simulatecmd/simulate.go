package simulatecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/cmd/internal/capture"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/simnet"
	"rubus/cmd/internal/ui"
)

// New is "rubus simulate".
func New(g *cli.Globals) *cobra.Command {
	var f simulateFlags
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Boot a simulated board, as firmware would",
		Long: `Play a board's firmware against a server, packet by packet: DHCP, then the
model's sequence of files by TFTP. Print what happened when, and what the board
would run. With --qemu go on: an emulated Pi 3 boots the files that were
fetched, up to its login prompt, with its root over NFS. With --keep or --reboot
a guest that reboots goes through all of it again, firmware first.

With --dry-run nothing is sent and nothing is mounted: devices.yaml, the images
and what the board wrote say what this board would get, and what is wrong.

The server is one on the network of --interface: a bridge (the board becomes a
port of it, so a server on this machine hears it) or, without --qemu, an
Ethernet interface (then the server is another machine). With --standalone no
network is needed: a namespace gets a bridge, an address server and a "rubus
serve" on an empty state directory that sees the images of this one. Nothing
that runs is touched, no packet leaves the machine, and what the board writes
is thrown away.

A Pi 4 or later behaves as its bootloader of the --eeprom date did: option 97,
block sizes, ceilings of files, old mistakes. --loss, --delay and --dup make the
network a bad one, for all that the board sends and gets. With --boards many
power on at once, with serials from --serial on.

Exit code 0: the board booted and the commands ended with 0. 1: it did not boot,
or a command failed. 2: the command line was wrong. Needs root.`,
		Example: `  rubus simulate --serial 5b154510 --model 4b --interface br0
  rubus simulate --standalone --image lab@4 --exec 'systemctl is-system-running'
  rubus simulate --standalone --image lab --qemu --interactive
  rubus simulate --serial 5b154510 --model 4b --eeprom 2020-03-04 --dry-run
  rubus simulate --standalone --image lab --model 5 --boards 20 --loss 2%`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return simulate(c.Context(), g, f) },
	}
	fs := c.Flags()
	f.boardFlags(fs)
	fs.StringVar(&f.iface, "interface", "", "bridge or Ethernet `interface` of the server's network")
	fs.BoolVar(&f.standalone, "standalone", false, "make a network and a server for this boot alone")
	fs.StringVar(&f.image, "image", "", "with --standalone: the `image` to boot, instead of what devices.yaml says")
	fs.BoolVar(&f.qemu, "qemu", false, "boot what was fetched in an emulator (qemu-system-aarch64)")
	fs.StringArrayVar(&f.exec, "exec", nil, "run a `command` in the guest as root; may be repeated (implies --qemu)")
	fs.BoolVar(&f.interactive, "interactive", false, "join the board's console to this terminal; Ctrl-] leaves it (implies --qemu)")
	fs.BoolVar(&f.keep, "keep", false, "leave the board running, and rebooting, until Ctrl-C or until it powers off (implies --qemu)")
	fs.BoolVar(&f.reboot, "reboot", false, "when the commands are done have the guest reboot, and run them again (implies --qemu)")
	fs.StringVar(&f.consoleLog, "console-log", "", "write what the board prints to `file`")
	fs.StringVar(&f.serverLog, "server-log", "", "with --standalone: write the server's log to `file`")
	fs.StringVar(&f.capture, "capture", "", "write the packets of the network to `file`, as Wireshark reads it (pcap)")
	fs.DurationVar(&f.timeout, "timeout", 0, "give up after this long (default 2m, with --qemu or --boards 10m)")
	c.ValidArgsFunction = cobra.NoFileCompletions
	for flag, offer := range map[string]cobra.CompletionFunc{
		"model": completeModels, "serial": g.CompleteSerial, "interface": completeInterfaces, "image": g.CompleteRefs,
	} {
		_ = c.RegisterFlagCompletionFunc(flag, offer)
	}
	return c
}

func simulate(ctx context.Context, g *cli.Globals, f simulateFlags) error {
	boards, err := f.check()
	if err != nil {
		return err
	}
	if f.dryRun {
		return dryRun(ctx, g, f, boards[0])
	}
	if os.Geteuid() != 0 {
		return ui.Hint(errors.New("simulating a board needs root: it sends raw Ethernet frames"), "run it with sudo")
	}
	// A log that cannot be written is better known now than after a boot.
	for _, name := range []string{f.consoleLog, f.serverLog, f.capture} {
		log, err := openLog(name)
		if err != nil {
			return err
		}
		log.Close()
	}
	if f.standalone && simnet.WorkDirInside(os.Getenv) == "" {
		return enterStandalone(g)
	}
	if len(boards) > 1 {
		return simulateMany(ctx, g, f, boards)
	}
	s := &simulation{g: g, f: f, board: boards[0], report: newReport(g, boards[0])}
	return s.report.finish(s.run(ctx))
}

// timeoutError says that --timeout is over.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("not done after %s (--timeout)", e.after) }

// simulation is one simulated boot.
type simulation struct {
	g      *cli.Globals
	f      simulateFlags
	board  fakepi.Board
	report *report
	// console gets what the board prints, over all its boots.
	console io.Writer
}

// run boots the board. --timeout is for all that happens by itself, not for
// what waits for a person.
func (s *simulation) run(ctx context.Context) (err error) {
	iface := s.f.iface
	if s.f.standalone {
		alone, err := startStandalone(ctx, s.g, s.f, []fakepi.Board{s.board})
		if err != nil {
			return err
		}
		defer alone.stop()
		ctx = alone.ctx
		iface = alone.bridge
		defer func() { s.report.serverLog = alone.tail() }()
	}
	if s.f.capture != "" {
		c, err := capture.Start(iface, s.f.capture)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Stop()) }()
	}
	console, err := openLog(s.f.consoleLog)
	if err != nil {
		return err
	}
	defer console.Close()
	s.console = console
	timed, cancel := context.WithTimeoutCause(ctx, s.f.timeout, &timeoutError{s.f.timeout})
	defer cancel()
	s.report.started = time.Now() // power on
	for again := true; again; {
		if again, err = s.boot(ctx, timed, iface); err != nil {
			return err
		}
		if again && s.f.keep {
			// Who has it run for as long as he likes has it boot for as long, too.
			timed = ctx
		}
	}
	return nil
}

// boot has the firmware fetch what the board runs and, with --qemu, run it. It says whether
// the guest has rebooted: then the board begins with its firmware, as after power-on.
func (s *simulation) boot(ctx, timed context.Context, iface string) (again bool, err error) {
	link, err := nic.Open(iface)
	if err != nil {
		return false, ui.Hint(err, "see \"ip link\" for the interfaces there are")
	}
	defer link.Close()
	tap, isTap := link.(*nic.Tap)
	if s.f.qemu && !isTap {
		return false, ui.Usage(fmt.Errorf("%q is no bridge: the emulator needs one to plug into", iface),
			"make a bridge and put the interface on it, or use --standalone")
	}
	if isTap {
		s.report.note("the board's network card is %s on %s", tap.Name(), iface)
	}
	f := s.f
	f.seed += uint64(s.report.Emulator.Boots) // no boot has the random numbers of the one before
	opt := f.options(link, s.board)
	begun := time.Since(s.report.started)
	opt.Observe = func(e fakepi.Event) {
		e.At += begun
		s.report.event(e)
	}
	res, err := fakepi.Run(timed, s.board, opt)
	s.report.fetched(res, err)
	if err != nil || !s.f.qemu {
		return false, err
	}
	return s.emulate(ctx, timed, res, tap)
}

// openLog opens a log file for writing; "" is none.
func openLog(name string) (io.WriteCloser, error) {
	if name == "" {
		return nopCloser{io.Discard}, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a log: %w", err)
	}
	return f, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

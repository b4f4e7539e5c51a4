package simulatecmd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/cmd/internal/ui"
	"rubus/config/device"
	"rubus/images/imageref"
)

const (
	// standaloneSerial is the board's when none is named: in a network of its
	// own any will do.
	standaloneSerial = "c0ffee01"
	// maxBoards bounds the boards at once: each has a network device.
	maxBoards = 1000
)

// simulateFlags is what "rubus simulate" was asked for.
type simulateFlags struct {
	model, serial, mac string
	iface              string
	standalone         bool
	image              string
	qemu               bool
	exec               []string
	interactive, keep  bool
	reboot             bool
	consoleLog         string
	serverLog          string
	capture            string
	timeout            time.Duration

	revision, eeprom, prefix string
	loss, dup                share
	delay                    time.Duration
	seed                     uint64
	boards                   int
	dryRun                   bool
}

// check finds out what is wrong with the flags and fills in what they imply.
func (f *simulateFlags) check() ([]fakepi.Board, error) {
	f.qemu = f.qemu || f.interactive || f.keep || f.reboot || len(f.exec) > 0
	if f.timeout == 0 {
		if f.timeout = 2 * time.Minute; f.qemu || f.boards > 1 {
			f.timeout = 10 * time.Minute
		}
	}
	switch {
	case f.timeout < 0:
		return nil, ui.Usagef("--timeout %s is over before it begins: want more than 0", f.timeout)
	case f.boards < 1 || f.boards > maxBoards:
		return nil, ui.Usagef("--boards %d: want 1 to %d", f.boards, maxBoards)
	case f.dryRun && (f.standalone || f.iface != "" || f.qemu || f.boards > 1 || f.faults().Any()):
		return nil, ui.Usagef("--dry-run sends nothing: leave out what is about networks, servers and emulators")
	case f.boards > 1 && (f.qemu || f.mac != ""):
		return nil, ui.Usagef("--boards is for the firmware's part of a boot, and each board has a MAC of its own: leave out --qemu and --mac")
	case f.standalone && f.boards > standaloneAddresses:
		return nil, ui.Usagef("--standalone has addresses for %d boards", standaloneAddresses)
	case f.faults().Check() != nil:
		return nil, ui.Usage(f.faults().Check())
	case f.dryRun && (f.serial != "" || f.image != ""): // no network is asked for
	case f.standalone && f.iface != "":
		return nil, ui.Usagef("--standalone makes a network of its own: leave out --interface")
	case !f.standalone && !f.dryRun && f.iface == "":
		return nil, ui.Usage(errors.New("which network is the server on?"),
			"name its bridge or interface with --interface, or use --standalone")
	case !f.standalone && !f.dryRun && (f.image != "" || f.serverLog != ""):
		return nil, ui.Usagef("--image and --server-log go with --standalone: a running server decides by its devices.yaml")
	case f.capture != "" && (f.dryRun || f.boards > 1):
		return nil, ui.Usagef("--capture is for one board on a network")
	case f.interactive && (len(f.exec) > 0 || f.reboot):
		return nil, ui.Usagef("use either --interactive, or --exec and --reboot")
	case !f.qemu && f.consoleLog != "":
		return nil, ui.Usagef("--console-log goes with --qemu")
	case f.serial == "" && f.image == "":
		return nil, ui.Usage(errors.New("which board?"), "name its serial with --serial, as in devices.yaml")
	}
	if f.serial == "" {
		f.serial = standaloneSerial
	}
	if f.image != "" {
		if _, err := imageref.Parse(f.image); err != nil {
			return nil, ui.Usage(err)
		}
	}
	return f.all()
}

// all are the boards, the first one as named and the others with the serials
// behind it.
func (f *simulateFlags) all() ([]fakepi.Board, error) {
	first, err := f.board()
	if err != nil {
		return nil, err
	}
	boards := []fakepi.Board{first}
	for n := first.Serial.Uint32() + 1; len(boards) < f.boards; n++ {
		serial, err := device.SerialFromUint32(n)
		if errors.Is(err, device.ErrNoSerial) {
			continue
		}
		b, err := fakepi.Setup{
			Model: f.model, Serial: serial, Revision: first.Revision, EEPROM: first.EEPROM, Prefix: first.Prefix,
		}.Board()
		if err != nil {
			return nil, err
		}
		boards = append(boards, b)
	}
	return boards, nil
}

func (f *simulateFlags) board() (fakepi.Board, error) {
	setup := fakepi.Setup{Model: f.model}
	var err error
	if setup.Serial, err = device.ParseSerial(f.serial); err != nil {
		return fakepi.Board{}, ui.Usage(err)
	}
	if f.mac != "" {
		if setup.MAC, err = device.ParseMAC(f.mac); err != nil {
			return fakepi.Board{}, ui.Usage(err)
		}
	}
	if f.revision != "" {
		n, err := strconv.ParseUint(f.revision, 16, 32)
		if err != nil || n == 0 {
			return fakepi.Board{}, ui.Usage(fmt.Errorf("revision %q: want hex digits such as c03111", f.revision), "it stands in /proc/cpuinfo")
		}
		setup.Revision = device.Revision(n)
	}
	if f.eeprom != "" {
		if setup.EEPROM, err = time.Parse(time.DateOnly, f.eeprom); err != nil {
			return fakepi.Board{}, ui.Usage(fmt.Errorf("bootloader %q: want its date, such as 2020-03-04", f.eeprom), "\"vcgencmd bootloader_version\" on the board says it")
		}
	}
	if setup.Prefix, err = fakepi.ParsePrefix(f.prefix); err != nil {
		return fakepi.Board{}, ui.Usage(err)
	}
	b, err := setup.Board()
	if err != nil {
		return fakepi.Board{}, ui.Usage(err)
	}
	if f.qemu && b.Revision.Processor() != 2 {
		return fakepi.Board{}, ui.Usage(fmt.Errorf("there is no emulator for a %s", b.Model.Title), "use --model 3b, or leave out --qemu")
	}
	return b, nil
}

// boardFlags are the flags about boards and the network they are on.
func (f *simulateFlags) boardFlags(fs *pflag.FlagSet) {
	fs.StringVar(&f.model, "model", "3b", strings.Join(modelNames(), ", "))
	fs.StringVar(&f.serial, "serial", "", "the board's `serial` (with --standalone --image: default "+standaloneSerial+")")
	fs.StringVar(&f.mac, "mac", "", "the board's Ethernet `address` (default: made from the serial)")
	fs.StringVar(&f.revision, "revision", "", "the board's revision `code` (default: a common one)")
	fs.StringVar(&f.eeprom, "eeprom", "", "the `date` of a Pi 4's or 5's bootloader (default: the newest known)")
	fs.StringVar(&f.prefix, "prefix", "", "what a Pi 4 or 5 puts before files: serial (default), mac, none or TEXT/")
	fs.BoolVar(&f.dryRun, "dry-run", false, "say what the board would get; send and mount nothing")
	fs.IntVar(&f.boards, "boards", 1, "power on this `number` of boards at once")
	fs.Var(&f.loss, "loss", "lose this `share` of the packets: 2%")
	fs.Var(&f.dup, "dup", "let this `share` of the packets come twice")
	fs.DurationVar(&f.delay, "delay", 0, "let each packet take this long")
	fs.Uint64Var(&f.seed, "seed", 1, "which packets are hit, and the boards' random numbers")
}

// modelNames are what --model takes.
func modelNames() []string {
	var names []string
	for _, m := range fakepi.Models() {
		names = append(names, m.Name)
	}
	return names
}

func (f *simulateFlags) faults() nic.Faults {
	return nic.Faults{Loss: float64(f.loss), Dup: float64(f.dup), Delay: f.delay, Seed: f.seed}
}

// options are those of one board's boot. The link is not closed.
func (f *simulateFlags) options(link nic.Link, b fakepi.Board) fakepi.Options {
	if faults := f.faults(); faults.Any() {
		link = nic.Faulty(link, b.MAC, faults)
	}
	return fakepi.Options{
		Link: link, Discard: f.boards > 1,
		Rand: rand.New(rand.NewPCG(f.seed, uint64(b.Serial.Uint32()))),
	}
}

// share is a part of all, said as "2%" or "0.02".
type share float64

// String implements pflag.Value.
func (s *share) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatFloat(100*float64(*s), 'g', 6, 64) + "%"
}

// Set implements pflag.Value.
func (s *share) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil {
		return fmt.Errorf("want a share such as 2%%")
	}
	if percent {
		x /= 100
	}
	*s = share(x)
	return nil
}

// Type implements pflag.Value.
func (s *share) Type() string { return "share" }

// completeModels offers the boards that can be played.
func completeModels(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, m := range fakepi.Models() {
		out = append(out, cobra.CompletionWithDesc(m.Name, m.Title))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeInterfaces offers the interfaces that a board can be played on.
func completeInterfaces(_ *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	var names []string
	list, _ := net.Interfaces() // none is no offer
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 && strings.HasPrefix(i.Name, begin) {
			names = append(names, i.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

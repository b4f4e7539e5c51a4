package servecmd

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rubus/boot"
	"rubus/boot/bootfs"
	"rubus/boot/flight"
	"rubus/boot/netconsole"
	"rubus/boot/pidhcp"
	"rubus/boot/tftp"
	"rubus/cmd/internal/ports"
	"rubus/config/device"
)

// flights tells the flight recorder what the daemon's parts saw, each in its own
// words.
type flights struct {
	rec   *flight.Recorder
	fleet *boot.Fleet // set before anything is observed

	mu sync.Mutex
	// macs name the boards that were heard: servers speak of a board by its MAC.
	macs map[device.MAC]device.Serial
	// mounted are boards whose first NFS call is still to come; waiting counts them.
	mounted map[string]device.Serial
	waiting atomic.Int32
}

// maxMACs bounds the boards whose MAC is remembered.
const maxMACs = 4096

func newFlights(rec *flight.Recorder) *flights {
	return &flights{rec: rec, macs: map[device.MAC]device.Serial{}, mounted: map[string]device.Serial{}}
}

// decided notes a DISCOVER and what was decided about it. Boards that devices.yaml
// does not name have no record: anybody can make some up.
func (f *flights) decided(s pidhcp.Sighting, v boot.Verdict) {
	if v.Serial.IsZero() || !v.Answer && !f.fleet.Knows(v.Serial) {
		return
	}
	f.mu.Lock()
	if len(f.macs) >= maxMACs {
		clear(f.macs)
	}
	f.macs[s.MAC] = v.Serial
	f.mu.Unlock()
	f.rec.Note(v.Serial, flight.Event{
		Time: s.Time, Kind: flight.Discover, Stage: s.Kind.String(), Revision: s.Revision,
		Bootloader: s.Bootloader(), MAC: s.MAC, Quiet: v.Quiet,
	})
	if !v.Answer {
		f.rec.Note(v.Serial, flight.Event{Time: s.Time, Kind: flight.Unanswered, Text: v.Why})
	}
}

func (f *flights) serialOf(mac device.MAC) device.Serial {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.macs[mac]
}

// dhcp notes what was sent, and what other servers said.
func (f *flights) dhcp(e pidhcp.Event) {
	switch e.What {
	case pidhcp.Answered, pidhcp.Repeated, pidhcp.Acked:
		f.rec.Note(f.serialOf(e.Request.MAC), flight.Event{
			Time: e.Time, Kind: flight.Offered, Server: e.Server, Address: e.Address, Confirmed: e.What == pidhcp.Acked,
		})
	case pidhcp.Noted:
		f.rec.Note(f.serialOf(e.Request.MAC), flight.Event{Time: e.Time, Kind: flight.Requested, Text: strings.ToUpper(e.Request.Type.String())})
	case pidhcp.Failed:
		f.rec.Note(f.serialOf(e.Request.MAC), flight.Event{Time: e.Time, Kind: flight.Unanswered, Text: "the answer could not be sent: " + e.Err.Error()})
	case pidhcp.Unserved:
		serial := f.serialOf(e.Request.MAC)
		if serial.IsZero() && f.fleet.Knows(e.Request.Serial) {
			serial = e.Request.Serial // nobody decided about it
		}
		f.rec.Note(serial, flight.Event{Time: e.Time, Kind: flight.Unanswered, Text: "no address is given out: " + e.Why})
	case pidhcp.Limited:
		f.rec.Note(f.serialOf(e.Request.MAC), flight.Event{Time: e.Time, Kind: flight.Unanswered, Text: "too many requests at once"})
	case pidhcp.OtherOffer:
		o := e.Offer
		server := o.ServerID
		if !server.IsValid() {
			server = o.Source
		}
		f.rec.Note(f.serialOf(o.Client), flight.Event{
			Time: e.Time, Kind: flight.Heard, Server: server, Address: o.Address, BootServer: o.BootServer,
			PiBoot: o.PiBoot, Confirmed: strings.EqualFold(o.Type.String(), "ack"),
		})
	}
}

// file notes the end of a file request.
func (f *flights) file(e tftp.Event) {
	var outcome flight.Outcome
	now := time.Now() // whose it was may take a while to learn
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r := e.Request
	switch e.Outcome {
	case tftp.OK:
		outcome = flight.Whole
	case tftp.EarlyTerminate:
		outcome = flight.Probed
	case tftp.NotFound:
		outcome = flight.Missing
	case tftp.Timeout:
		outcome = flight.TimedOut
	case tftp.Aborted, tftp.Superseded:
		outcome = flight.GaveUp
	case tftp.Failed, tftp.Stopped:
		outcome = flight.Broken
	default:
		return // none of a board
	}
	serial, name := f.fleet.AskerOf(ctx, r.Client.Addr(), r.Path)
	if !f.fleet.Knows(serial) {
		return
	}
	if outcome == flight.Missing && bootfs.Optional(name) {
		outcome = flight.Expected
	}
	if outcome == flight.Whole {
		f.fleet.Fetched(serial, name)
	}
	n := flight.Event{
		Time: now, Kind: flight.File, Server: r.Server, Address: r.Client.Addr(), Name: name, Outcome: outcome,
		Size: e.Size, Bytes: e.Bytes, Block: e.Block, Took: e.Duration.Round(time.Microsecond), Retries: e.Retries,
	}
	if outcome == flight.Broken && e.Err != nil {
		n.Text = e.Err.Error()
	}
	f.rec.Note(serial, n)
}

// board notes what the fleet says of a board.
func (f *flights) board(e boot.Event) {
	kinds := map[string]flight.Kind{
		"mount": flight.Mounted, "refused": flight.Refused, "stopped": flight.Stopped, "running": flight.Running, "good": flight.Good,
		"failed": flight.Failed, "prepared": flight.Prepared, "blocked": flight.Blocked, "warned": flight.Warned,
		"rebased": flight.Rebased,
	}
	kind, ok := kinds[e.Kind]
	if !ok {
		return
	}
	if kind == flight.Mounted {
		f.mu.Lock()
		f.mounted[e.Serial.String()] = e.Serial
		f.waiting.Store(int32(len(f.mounted)))
		f.mu.Unlock()
	}
	f.rec.Note(e.Serial, flight.Event{
		Time: e.Time, Kind: kind, Text: e.Text, Boot: e.Boot, Reports: e.Reports, LastGood: e.LastGood, Problem: e.Problem, Name: e.Kernel,
	})
}

// called notes the first NFS call after a MOUNT. It runs for every call.
func (f *flights) called(export string) {
	if f.waiting.Load() == 0 {
		return
	}
	f.mu.Lock()
	serial, ok := f.mounted[export]
	delete(f.mounted, export)
	f.waiting.Store(int32(len(f.mounted)))
	f.mu.Unlock()
	if ok {
		f.rec.Note(serial, flight.Event{Time: time.Now(), Kind: flight.Called})
	}
}

// console notes a line that a board's kernel or bootloader sent.
func (f *flights) console(l netconsole.Line) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	serial, _ := f.fleet.AskerOf(ctx, l.From, "")
	f.rec.Note(serial, flight.Event{Time: time.Now(), Kind: flight.Console, Text: l.Text})
}

// listenConsole opens the port for boards' consoles, when that is wanted.
func (s *server) listenConsole() (err error) {
	if !s.cfg.Netconsole.Enabled {
		return nil
	}
	s.console, err = net.ListenUDP("udp4", &net.UDPAddr{Port: int(s.cfg.Netconsole.Port)})
	if err != nil {
		return portHint(ports.Explain(err, "udp", netip.AddrPortFrom(netip.IPv4Unspecified(), s.cfg.Netconsole.Port)))
	}
	return nil
}

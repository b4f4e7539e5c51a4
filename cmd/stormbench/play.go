package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rubus/boot/fakepi"
	"rubus/boot/fakepi/nic"
	"rubus/config/device"
	"rubus/nfsexport/nfsreplay"
)

// patience stretches the firmware's waiting times: a hundred boards on a machine that
// plays them all are slow for reasons that are not the server's.
const patience = 4

// booted is how a board's boot went.
type booted struct {
	Error string `json:",omitempty"`
	// Firmware is the time from power-on to the kernel, and NFS that of its calls.
	Firmware, NFS time.Duration
	Bytes         int64
	Files         int
	Retries       int
	Replay        nfsreplay.Result
}

// serial and mac are those of board n.
func identity(n int) (device.Serial, device.MAC, error) {
	s, err := device.SerialFromUint32(0x57000000 + uint32(n))
	return s, device.MAC{2, 0x57, 0, 0, byte(n >> 8), byte(n)}, err
}

// play has the boards: it does what it is told on standard input and says what came of
// it on standard output.
func play(ctx context.Context, model, recording string) error {
	rec, err := readRecording(recording)
	if err != nil {
		return err
	}
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	var word string
	if err := in.Decode(&word); err != nil {
		return err
	}
	if b, err := exec.Command("sh", "-ec", `mount --make-rprivate /; mount -t sysfs sysfs /sys
ip link set lo up; ip link set "$1" up
for v in rp_filter=0 arp_ignore=1 arp_announce=2; do
	for d in all default "$1"; do echo "${v#*=}" >"/proc/sys/net/ipv4/conf/$d/${v%=*}"; done
done
echo 1 >"/proc/sys/net/ipv6/conf/all/disable_ipv6" || true`, "sh", boardsCard).CombinedOutput(); err != nil {
		return fmt.Errorf("the boards' network: %w: %s", err, b)
	}
	if err := ownReceiver(boardsCard); err != nil {
		return err
	}
	for {
		var o order
		if err := in.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if o.Ask {
			if err := out.Encode("ready"); err != nil {
				return err
			}
			if err := in.Decode(&word); err != nil {
				return err
			}
			asked, err := askAll(ctx, model, o)
			if err == nil {
				err = out.Encode(asked)
			}
			if err != nil {
				return err
			}
			continue
		}
		boards := make([]*board, o.Boards)
		for i := range boards {
			if boards[i], err = newBoard(model, o.First+i, rec); err != nil {
				return err
			}
		}
		if err := out.Encode("ready"); err != nil {
			return err
		}
		if err := in.Decode(&word); err != nil {
			return err
		}
		results := make([]booted, len(boards))
		var all sync.WaitGroup
		for i, b := range boards {
			all.Go(func() {
				if err := b.boot(ctx, &results[i]); err != nil {
					results[i].Error = err.Error()
				}
			})
		}
		all.Wait()
		for _, b := range boards {
			b.link.Close()
			if err := ip("link", "del", b.card); err != nil {
				return err
			}
		}
		if err := out.Encode(results); err != nil {
			return err
		}
	}
}

// ownReceiver gives a card a thread of the kernel's that takes in what comes, as a cable
// and the board at its end do: else who sends is charged for that.
func ownReceiver(card string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// A veth has NAPI when it has GRO ("ethtool -K CARD gro on").
	value := [2]uint32{unix.ETHTOOL_SGRO, 1}
	request := struct { // struct ifreq
		name  [unix.IFNAMSIZ]byte
		value unsafe.Pointer
		_     [16]byte
	}{value: unsafe.Pointer(&value)}
	copy(request.name[:], card)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("switching GRO on for %s: %w", card, errno)
	}
	if err := os.WriteFile("/sys/class/net/"+card+"/threaded", []byte("1"), 0); err != nil {
		return fmt.Errorf("giving %s a thread of its own: %w", card, err)
	}
	return atOnce("napi/" + card)
}

// atOnce has the threads of the kernel whose names begin so go before all else: a cable
// loses no frames because its machine has other work.
func atOnce(name string) error {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	for _, p := range names {
		comm, _ := os.ReadFile(p) // ended meanwhile
		if !strings.HasPrefix(string(comm), name) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, pid, -20)
		}
		if err != nil {
			return fmt.Errorf("the thread %s: %w", comm, err)
		}
	}
	return nil
}

// askers is how many boards ask at once. Fewer would wait for their turn more than for the
// server, which asks for each new address for 0.3 s; more are too much for who plays them.
const askers = 150

// askAll has boards ask for their first file, a number of them at once.
func askAll(ctx context.Context, model string, o order) ([]booted, error) {
	results := make([]booted, o.Boards)
	cable, err := nic.OpenMany(boardsCard)
	if err != nil {
		return nil, err
	}
	defer cable.Close()
	cards := nic.NewSwitch(cable)
	next := make(chan int)
	var all sync.WaitGroup
	for range min(askers, o.Boards) {
		all.Go(func() {
			for i := range next {
				begin := time.Now()
				if err := ask(ctx, cards, model, o.First+i); err != nil {
					results[i].Error = err.Error()
				}
				results[i].Firmware = time.Since(begin)
			}
		})
	}
	for i := range o.Boards {
		next <- i
	}
	close(next)
	all.Wait()
	return results, nil
}

// ask plays a board up to its first file.
func ask(ctx context.Context, cards *nic.Switch, model string, n int) error {
	serial, mac, err := identity(n)
	if err != nil {
		return err
	}
	pi, err := fakepi.NewBoard(model, serial, mac)
	if err != nil {
		return err
	}
	card := cards.Plug(mac)
	defer card.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := false
	link := &untilAsked{card, &asked}
	_, err = fakepi.Run(ctx, pi, fakepi.Options{Link: link, Patience: patience, Discard: true, Observe: func(e fakepi.Event) {
		if (e.Kind == fakepi.KindRead || e.Kind == fakepi.KindProbe) && e.Outcome != fakepi.Failed {
			asked = true
			cancel()
		}
	}})
	if asked {
		return nil
	}
	return err
}

// untilAsked is a card that says nothing more when its board has asked. What it asked for
// after that the server would hold ready for ten seconds, and of a thousand such boards
// it would let the later ones wait.
type untilAsked struct {
	nic.Link
	asked *bool
}

func (u *untilAsked) WriteFrame(b []byte) error {
	if *u.asked {
		return nil
	}
	return u.Link.WriteFrame(b)
}

// board is a board with a card of its own on the cable.
type board struct {
	pi   fakepi.Board
	card string
	link nic.Link
	rec  *nfsreplay.Recording
}

func newBoard(model string, n int, rec *nfsreplay.Recording) (*board, error) {
	serial, mac, err := identity(n)
	if err != nil {
		return nil, err
	}
	b := &board{card: fmt.Sprintf("b%d", n), rec: rec}
	if b.pi, err = fakepi.NewBoard(model, serial, mac); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "add", "link", boardsCard, "name", b.card, "address", mac.String(), "type", "macvlan", "mode", "bridge"},
		{"link", "set", b.card, "up"},
	} {
		if err := ip(args...); err != nil {
			return nil, err
		}
	}
	b.link, err = nic.OpenRaw(b.card)
	return b, err
}

// boot plays the firmware, and then the recorded calls from the address that the
// board was given.
func (b *board) boot(ctx context.Context, out *booted) error {
	begin := time.Now()
	res, err := fakepi.Run(ctx, b.pi, fakepi.Options{Link: b.link, Patience: patience, Discard: true})
	out.Firmware = time.Since(begin)
	out.Files, out.Bytes = res.Files, res.Bytes
	for _, e := range res.Events {
		out.Retries += e.Retries
	}
	if err != nil {
		return err
	}
	server, path, err := nfsroot(res.Cmdline)
	if err != nil {
		return err
	}
	if err := ip("addr", "add", res.Address.String(), "dev", b.card); err != nil {
		return err
	}
	begin = time.Now()
	root, err := b.mount(ctx, res.Address.Addr(), server, path)
	if err != nil {
		return err
	}
	conn, err := b.dial(ctx, res.Address.Addr(), server, 2049)
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := b.rec.Replay(ctx, conn, root)
	out.NFS = time.Since(begin)
	if err != nil {
		return fmt.Errorf("replaying the recorded boot: %w", err)
	}
	out.Replay = *r
	return nil
}

func (b *board) mount(ctx context.Context, own netip.Addr, server, path string) ([]byte, error) {
	conn, err := b.dial(ctx, own, server, 20048)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return nfsreplay.Mount(conn, path)
}

// dial connects over the board's own card, from a port below 1024.
func (b *board) dial(ctx context.Context, own netip.Addr, server string, port int) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   30 * time.Second,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, uint16(700+port%256))),
		Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			cerr := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), b.card) })
			return errors.Join(cerr, err)
		},
	}
	return d.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", server, port))
}

// nfsroot finds server and path in a kernel's command line.
func nfsroot(cmdline string) (server, path string, err error) {
	for _, w := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(w, "nfsroot="); ok {
			v, _, _ = strings.Cut(v, ",")
			if server, path, ok = strings.Cut(v, ":"); ok {
				return server, path, nil
			}
		}
	}
	return "", "", fmt.Errorf("no nfsroot=SERVER:PATH in %q", cmdline)
}

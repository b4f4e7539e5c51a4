package neigh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"rubus/config/device"
)

// Verdict is what asking a board for a sign of life came to.
type Verdict uint8

// The verdicts.
const (
	// Unknown: it could not be found out. Count it as up.
	Unknown Verdict = iota
	// Up: the board answered.
	Up
	// Silent: nobody did.
	Silent
	// Other: the board did not, but another one has its address.
	Other
)

// String is the verdict in one word.
func (v Verdict) String() string {
	switch v {
	case Up:
		return "up"
	case Silent:
		return "silent"
	case Other:
		return "other"
	}
	return "unknown"
}

// Answer is the outcome of Probe.
type Answer struct {
	Verdict Verdict
	// MAC is who answered instead (Other).
	MAC device.MAC
	// Err is why nobody can tell (Unknown).
	Err error
}

func unknown(err error) Answer { return Answer{Err: err} }

// maxAsked bounds the addresses that a board is asked at.
const maxAsked = 4

// Probe asks a board for a sign of life and says whether it gave one. On the
// link it sends ARP requests, for ip and for other addresses that the kernel
// has seen the board at, and any ARP message of the board is a sign of life.
// Off the link it pings ip, and whoever answers counts as the board; silence
// counts only behind a router that answers. It takes Options.Probes times
// Options.Interval, unless the board answers. Whatever
// goes wrong, a link without carrier or a ctx that ends included, is Unknown.
func (t *Table) Probe(ctx context.Context, ip netip.Addr, mac device.MAC) Answer {
	r, err := routeTo(ip)
	switch {
	case err != nil:
		return unknown(err)
	case r.local:
		return unknown(fmt.Errorf("%v is an address of this host", ip))
	case !r.onLink:
		return t.ping(ctx, r)
	case mac.IsZero():
		return unknown(errors.New("no MAC address to ask for"))
	}
	return t.arping(ctx, r, mac)
}

// Silent is Probe with one question less: it says whether the board gave no
// sign of life; an error means that nobody can tell.
func (t *Table) Silent(ctx context.Context, ip netip.Addr, mac device.MAC) (bool, error) {
	a := t.Probe(ctx, ip, mac)
	return a.Verdict == Silent || a.Verdict == Other, a.Err
}

// Other asks on the link, as Probe does but for this one address alone, whether another
// than a client has it: who is to be given an address has no others yet. What cannot be
// asked nobody has. What an interface is, is remembered as for OnLink: it destroys nothing.
func (t *Table) Other(ctx context.Context, ip netip.Addr, client device.MAC) (other device.MAC, has bool) {
	r, err := routeBy(ip, t.link)
	if err != nil || !r.onLink || client.IsZero() {
		return device.MAC{}, false
	}
	a := t.ask(ctx, r, client, []netip.Addr{r.ip})
	return a.MAC, a.Verdict == Other
}

func (t *Table) arping(ctx context.Context, r route, mac device.MAC) Answer {
	asked, err := addressesOf(r.index, mac)
	if err != nil {
		return unknown(err)
	}
	asked = slices.DeleteFunc(asked, func(a netip.Addr) bool { return a == r.ip })
	return t.ask(ctx, r, mac, append([]netip.Addr{r.ip}, asked[:min(len(asked), maxAsked-1)]...))
}

// ask asks a board at addresses.
func (t *Table) ask(ctx context.Context, r route, mac device.MAC, asked []netip.Addr) Answer {
	own, err := carrierOf(&r.link)
	if err != nil {
		return unknown(err)
	}
	var frames [][]byte
	for _, a := range asked {
		// Broadcast finds a board whose port the switch has forgotten, unicast
		// one behind an access point that filters broadcasts.
		for _, dst := range []device.MAC{broadcastMAC(), mac} {
			f, err := arpRequest(own, r.src, dst, a)
			if err != nil {
				return unknown(fmt.Errorf("asking for %v: %w", a, err))
			}
			frames = append(frames, f)
		}
	}
	c, err := arpSocket(r.index, r.ip, mac)
	if err != nil {
		return unknown(err)
	}
	defer c.Close()
	l := listener{conn: c, ip: r.ip, mac: mac, own: own}
	for range t.opt.Probes {
		for _, f := range frames {
			to := &unix.SockaddrLinklayer{Ifindex: r.index, Halen: 6}
			copy(to.Addr[:], f[:6])
			if err := c.Sendto(ctx, f, 0, to); err != nil {
				return unknown(fmt.Errorf("asking for %v: %w", r.ip, err))
			}
		}
		up, err := l.listen(ctx, t.opt.Interval)
		if err != nil {
			return unknown(err)
		}
		if up {
			return Answer{Verdict: Up}
		}
	}
	// Silence on a link that is gone by now proves nothing.
	if err := hasCarrier(c, r.link.Name); err != nil {
		return unknown(err)
	}
	if !l.other.IsZero() {
		return Answer{Verdict: Other, MAC: l.other}
	}
	return Answer{Verdict: Silent}
}

// listener hears ARP while a board is asked.
type listener struct {
	conn  *socket.Conn
	ip    netip.Addr
	mac   device.MAC
	own   device.MAC
	other device.MAC // who else has the address
}

// listen hears for a while and says whether the board spoke.
func (l *listener) listen(ctx context.Context, d time.Duration) (up bool, err error) {
	round, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	buf := make([]byte, 256)
	for {
		n, from, err := l.conn.Recvfrom(round, buf, 0)
		if err != nil {
			if ctx.Err() == nil && round.Err() != nil {
				return false, nil
			}
			return false, fmt.Errorf("listening for %v: %w", l.mac, err)
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); !ok || sa.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		c, err := parseARP(buf[:n])
		if err != nil {
			continue
		}
		switch {
		case c.mac == l.mac:
			return true, nil
		case c.ip == l.ip && c.mac != l.own:
			l.other = c.mac
		}
	}
}

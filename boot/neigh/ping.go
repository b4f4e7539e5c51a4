package neigh

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// ping asks an address off the link for an echo (RFC 792).
func (t *Table) ping(ctx context.Context, r route) Answer {
	c, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return unknown(fmt.Errorf("opening an ICMP socket: %w (needs CAP_NET_RAW)", err))
	}
	defer c.Close()
	// A read ends when ctx does.
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	e := echo{ip: r.ip, own: r.src}
	_, _ = rand.Read(e.token[:]) // never fails, crypto/rand says
	for seq := range t.opt.Probes {
		b, err := e.request(seq)
		if err != nil {
			return unknown(fmt.Errorf("pinging %v: %w", r.ip, err))
		}
		if _, err := c.WriteTo(b, &net.IPAddr{IP: r.ip.AsSlice()}); err != nil {
			return unknown(fmt.Errorf("pinging %v: %w", r.ip, err))
		}
		if err := c.SetReadDeadline(time.Now().Add(t.opt.Interval)); err != nil {
			return unknown(err)
		}
		if err := ctx.Err(); err != nil { // it may have ended before the deadline was set anew
			return unknown(fmt.Errorf("pinging %v: %w", r.ip, err))
		}
		if up, err := e.listen(ctx, c); up || err != nil {
			if err != nil {
				return unknown(fmt.Errorf("pinging %v: %w", r.ip, err))
			}
			return Answer{Verdict: Up}
		}
	}
	if err := t.throughGateway(ctx, r); err != nil {
		return unknown(fmt.Errorf("pinging %v: %w", r.ip, err))
	}
	return Answer{Verdict: Silent}
}

// throughGateway fails unless the router towards an address is alive: behind a
// dead one everybody is silent.
func (t *Table) throughGateway(ctx context.Context, r route) error {
	if !r.gateway.IsValid() {
		return nil
	}
	gw, err := routeTo(r.gateway)
	if err != nil || !gw.onLink {
		return err
	}
	mac, _, err := gw.neighbour()
	if err != nil {
		return err
	}
	if mac.IsZero() || t.arping(ctx, gw, mac).Verdict != Up {
		return fmt.Errorf("the router %v does not answer", r.gateway)
	}
	return nil
}

// echo is one series of pings.
type echo struct {
	ip, own netip.Addr
	token   [16]byte // what comes back; its first two bytes are the identifier
}

func (e *echo) id() int { return int(binary.BigEndian.Uint16(e.token[:])) }

func (e *echo) request(seq int) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: e.id(), Seq: seq, Data: e.token[:]}}
	return m.Marshal(nil)
}

// listen reads until the deadline and says whether the address answered.
func (e *echo) listen(ctx context.Context, c *icmp.PacketConn) (up bool, err error) {
	buf := make([]byte, 1500)
	for {
		n, peer, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, ctx.Err()
		}
		if err != nil {
			return false, err
		}
		a, ok := peer.(*net.IPAddr)
		if !ok {
			continue
		}
		from, _ := netip.AddrFromSlice(a.IP.To4())
		if up, err = e.heard(from, buf[:n]); up || err != nil {
			return up, err
		}
	}
}

// heard judges one ICMP message. The address's own answer is life. That the
// last router cannot reach it is silence. That nobody on the way knows or wants
// to go there is an error: the board may be well.
func (e *echo) heard(from netip.Addr, b []byte) (up bool, err error) {
	m, err := icmp.ParseMessage(1, b) // 1: ICMP for IPv4
	if err != nil {
		return false, nil
	}
	switch body := m.Body.(type) {
	case *icmp.Echo:
		return m.Type == ipv4.ICMPTypeEchoReply && from == e.ip && body.ID == e.id() && bytes.Equal(body.Data, e.token[:]), nil
	case *icmp.DstUnreach:
		const hostUnreachable = 1
		if !e.quoted(body.Data) || m.Code == hostUnreachable && from != e.own {
			return false, nil
		}
		return false, fmt.Errorf("%v says unreachable (ICMP code %d)", from, m.Code)
	case *icmp.TimeExceeded:
		if e.quoted(body.Data) {
			return false, fmt.Errorf("%v says time exceeded", from)
		}
	}
	return false, nil
}

// quoted says that an ICMP error quotes one of our requests: the IPv4 header
// and eight bytes.
func (e *echo) quoted(b []byte) bool {
	if len(b) < ipv4.HeaderLen || b[0]>>4 != 4 {
		return false
	}
	n := int(b[0]&0xf) * 4
	return n >= ipv4.HeaderLen && len(b) >= n+8 && netip.AddrFrom4([4]byte(b[16:20])) == e.ip &&
		b[n] == byte(ipv4.ICMPTypeEcho) && int(binary.BigEndian.Uint16(b[n+4:])) == e.id()
}

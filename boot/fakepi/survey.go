package fakepi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"rubus/boot/fakepi/nic"
)

// Heard is what a board of one model hears on a network, and what it makes of it.
type Heard struct {
	Model Model
	// Offers are all answers, in the order they came.
	Offers []Offer
	// Server is where firmware would get its files from and Why says how it
	// comes to that; not valid: nobody offers any.
	Server netip.Addr
	Why    string
	// Weak: it goes there only because nobody names a boot server.
	Weak bool
	// Address is the server of the address it would take; not valid: none.
	Address netip.Addr
}

// Survey asks once as the first firmware of each model does, and listens for
// as long as wait. It asks for offers only and takes no lease. All boards must
// have the same MAC, for there is one network card.
func Survey(ctx context.Context, link nic.Link, boards []Board, wait time.Duration) ([]Heard, error) {
	if len(boards) == 0 {
		return nil, nil
	}
	r := &run{stack: nic.NewStack(link, boards[0].MAC)}
	r.stack.Silent = true
	out := make([]Heard, len(boards))
	leases := make([]lease, len(boards))
	styles := make([]*dhcpStyle, len(boards))
	for i, b := range boards {
		if b.MAC != boards[0].MAC {
			return nil, errors.New("boards of a survey have one MAC")
		}
		styles[i], out[i].Model = b.stages[0].dhcp, b.Model
		if err := r.broadcast(ctx, discover(styles[i], b, surveyXID(i))); err != nil {
			return nil, fmt.Errorf("asking as a %s: %w", b.Model.Title, err)
		}
	}
	sent := time.Now()
	for deadline := sent.Add(wait); ; {
		o, err := r.reply(ctx, deadline)
		if errors.Is(err, nic.ErrTimeout) {
			break
		}
		if err != nil {
			return nil, err
		}
		for i := range out {
			if o.kind == msgOffer && o.xid == surveyXID(i) && o.mac == boards[i].MAC {
				out[i].Offers = append(out[i].Offers, o)
				// Who has what he needs listens to nobody else.
				if !leases[i].done() || time.Since(sent) < styles[i].window {
					leases[i].add(styles[i], o)
				}
			}
		}
	}
	for i, l := range leases {
		out[i].Server, out[i].Why, out[i].Weak, out[i].Address = l.server.addr, l.server.why, l.server.weak, l.address.Server
	}
	return out, nil
}

// surveyXID tells the answers to boards apart: Pis before the 4 would all use
// the same transaction id.
func surveyXID(i int) uint32 { return 0x72756275 + uint32(i) }

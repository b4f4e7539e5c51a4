package main

import (
	"context"

	"rubus/boot"
	"rubus/boot/proxydhcp"
)

// dhcpDecider lets the fleet decide who is answered.
type dhcpDecider struct{ fleet *boot.Fleet }

// Decide implements proxydhcp.Decider.
func (d dhcpDecider) Decide(_ context.Context, s proxydhcp.Sighting) proxydhcp.Decision {
	v := d.fleet.Sight(boot.Sighting{Serial: s.Serial, MAC: s.MAC, Revision: s.Revision, Stage: s.Kind.String()})
	return proxydhcp.Decision{Answer: v.Answer, Why: v.Why}
}

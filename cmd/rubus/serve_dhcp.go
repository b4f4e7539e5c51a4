package main

import (
	"context"

	"rubus/boot"
	"rubus/boot/pidhcp"
)

// dhcpDecider lets the fleet decide who is answered.
type dhcpDecider struct {
	fleet   *boot.Fleet
	flights *flights
}

// Decide implements pidhcp.Decider.
func (d dhcpDecider) Decide(_ context.Context, s pidhcp.Sighting) pidhcp.Decision {
	v := d.fleet.Sight(boot.Sighting{Serial: s.Serial, MAC: s.MAC, Revision: s.Revision, Stage: s.Kind.String()})
	d.flights.decided(s, v)
	return pidhcp.Decision{Answer: v.Answer, Why: v.Why}
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"rubus/boot/pidhcp"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ports"
	"rubus/cmd/internal/ui"
	"rubus/config"
)

// printElsewhere prints what the site's own DHCP server must be told when rubus
// leaves all of DHCP to it.
func printElsewhere(g *cli.Globals) error {
	f, err := config.LoadFile(g.ConfigFile)
	d := config.DefaultDaemon()
	if err == nil {
		d, err = config.ParseDaemon(f)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	addr, err := serverAddress(d.Listen)
	if err != nil {
		return err
	}
	if d.DHCP.Mode != config.DHCPOff {
		g.Notef("none of this is needed: rubus answers boards itself, as long as rubus.yaml does not say \"dhcp: {mode: off}\"")
	}
	snippets := pidhcp.Elsewhere(addr)
	if g.JSON {
		out := map[string]string{}
		for _, s := range snippets {
			out[s.Name] = s.Text
		}
		return g.PrintJSON(out)
	}
	for i, s := range snippets {
		if i > 0 {
			fmt.Fprintln(g.Stdout)
		}
		fmt.Fprintf(g.Stdout, "%s:\n%s", s.Name, s.Text)
	}
	return nil
}

// serverAddress is the address that boards are to get their files from: the
// first to listen on, or the only one of this machine.
func serverAddress(listen []config.Listen) (netip.Addr, error) {
	if len(listen) > 0 {
		addrs, err := ports.Addresses(listen[0].Interface, listen[0].Address)
		if err != nil {
			return netip.Addr{}, err
		}
		return addrs[0], nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	var found []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			found = append(found, p.Addr())
		}
	}
	if len(found) != 1 {
		return netip.Addr{}, ui.Hint(fmt.Errorf("this machine has %d addresses: which one do boards reach?", len(found)),
			"name it, or its interface, with \"listen\" in rubus.yaml")
	}
	return found[0], nil
}

// badReservations says which addresses of devices.yaml cannot be given out by the DHCP
// server of this machine. It says nothing while no interface has the range's network.
func badReservations(s *config.Snapshot) (out []string) {
	d := s.Daemon().DHCP
	if d.Mode != config.DHCPServer {
		return nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Contains(d.First) || !p.Contains(d.Last) {
			continue
		}
		for _, dev := range s.Devices() {
			if dev.Address.IsValid() && (!p.Contains(dev.Address) || dev.Address == p.Addr()) {
				out = append(out, fmt.Sprintf("device %s gets another address than its %s, which cannot be given out in %s", dev.Serial, dev.Address, p.Masked()))
			}
		}
		return out
	}
	return nil
}

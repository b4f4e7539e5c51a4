package main

import (
	"context"
	"strings"

	"rubus/cmd/internal/doctor"
	"rubus/cmd/internal/servecmd"
	"rubus/cmd/internal/ui"
	"rubus/config"
)

// wantedPorts are the ports that a daemon opens.
func wantedPorts(d config.Daemon) []doctor.Port {
	out := []doctor.Port{{Network: "udp", Port: d.TFTP.Port, For: "TFTP"}}
	if d.DHCP.Mode != config.DHCPOff {
		// A proxy hears beside the server that has the port.
		out = append(out, doctor.Port{Network: "udp", Port: 67, For: "DHCP", Shared: d.DHCP.Mode == config.DHCPProxy})
	}
	if d.Netconsole.Enabled {
		out = append(out, doctor.Port{Network: "udp", Port: d.Netconsole.Port, For: "netconsole"})
	}
	if d.NFS.Backend == config.BackendKernel {
		return out
	}
	if d.NFS.Portmap {
		out = append(out, doctor.Port{Network: "tcp", Port: d.NFS.PortmapPort, For: "portmap"},
			doctor.Port{Network: "udp", Port: d.NFS.PortmapPort, For: "portmap"})
	}
	return append(out, doctor.Port{Network: "tcp", Port: d.NFS.Port, For: "NFS"},
		doctor.Port{Network: "tcp", Port: d.NFS.MountPort, For: "MOUNT"}, doctor.Port{Network: "udp", Port: d.NFS.MountPort, For: "MOUNT"})
}

// hostPorts are those that boards must reach and the host's NFS server has.
func hostPorts(ctx context.Context, d config.Daemon) []doctor.Port {
	if d.NFS.Backend != config.BackendKernel {
		return nil
	}
	out := []doctor.Port{
		{Network: "tcp", Port: portmapPort, For: "portmap"},
		{Network: "udp", Port: portmapPort, For: "portmap"},
		{Network: "tcp", Port: d.NFS.Port, For: "NFS"},
	}
	tcp, udp := servecmd.HostMountPorts(ctx)
	for _, p := range []doctor.Port{{Network: "tcp", Port: tcp, For: "MOUNT"}, {Network: "udp", Port: udp, For: "MOUNT"}} {
		if p.Port != 0 {
			out = append(out, p)
		}
	}
	return out
}

// portmapPort is the one that boards know (RFC 1833 section 3.2).
const portmapPort = 111

// examineNFS looks at the host's NFS server, where it is to serve boards' roots.
func examineNFS(ctx context.Context, d config.Daemon) []doctor.Finding {
	if d.NFS.Backend != config.BackendKernel {
		return nil
	}
	f := doctor.Finding{Check: "nfs", Level: doctor.OK, What: "the kernel's NFS server is there, and the state directory is a file system of its own"}
	if err := servecmd.HostNFS(ctx, d.State, d.NFS.Port); err != nil {
		f = doctor.Finding{
			Check: "nfs", Level: doctor.Failure, What: err.Error(),
			Why: "nfs.backend of rubus.yaml is kernel: rubus does not start", Do: strings.Join(ui.Hints(err), "\n"),
		}
	}
	return []doctor.Finding{f, {
		Check: "nfs", Level: doctor.Warning, What: servecmd.NotIsolated,
		Why: "handles that a board makes up are good", Do: "leave nfs.backend out of rubus.yaml, unless one person is root on all boards anyway (docs/nfs-kernel.md)",
	}}
}

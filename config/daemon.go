package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"time"
)

// Daemon is what rubus.yaml says. DefaultDaemon is what it says when there is
// no such file.
type Daemon struct {
	// State is the directory of images and of the boards' own files; absolute.
	State string
	// Listen are the addresses and interfaces to serve on; none: all.
	Listen []Listen
	NFS    NFS
	TFTP   TFTP
	DHCP   DHCP
	// Reserve are bytes of the state directory's file system that boards leave
	// free: their writes fail with "no space" before rubus' own do.
	Reserve int64
	// Quiet is how long an export must be without a call before its board
	// counts as gone, or what it held is removed.
	Quiet      time.Duration
	Log        Log
	Control    Control
	Boot       Boot
	Netconsole Netconsole
}

// Listen is one address or one interface; exactly one field is set.
type Listen struct {
	Interface string
	Address   netip.Addr
}

// String is the form in the file.
func (l Listen) String() string {
	if l.Address.IsValid() {
		return l.Address.String()
	}
	return l.Interface
}

// NFS is the section "nfs".
type NFS struct {
	// Backend is the server of the boards' roots. The kernel's is taken only with
	// AcceptUnauthenticated.
	Backend                      Backend
	AcceptUnauthenticated        bool
	Port, MountPort, PortmapPort uint16
	// Portmap serves the port mapper, which the klibc initramfs of Debian and
	// Raspberry Pi OS asks.
	Portmap bool
	// InsecurePorts accepts calls from ports of 1024 and above.
	InsecurePorts bool
	// Sync puts metadata on disk before a call is answered.
	Sync bool
	// SlowCall is how long a call may take before it is logged; 0: for ever.
	SlowCall time.Duration
}

// Backend is a server of the boards' roots.
type Backend string

// The servers.
const (
	// BackendUser is ours.
	BackendUser Backend = "user"
	// BackendKernel is the host's nfsd.
	BackendKernel Backend = "kernel"
)

// Log is the section "log".
type Log struct {
	Level slog.Level
	// JSON writes lines of JSON instead of key=value.
	JSON bool
}

// Control is the section "control".
type Control struct {
	// Group may use the control socket beside root.
	Group string
}

// DefaultDaemon is a Daemon with every default.
func DefaultDaemon() Daemon {
	return Daemon{
		State:   "/var/lib/rubus",
		NFS:     NFS{Backend: BackendUser, Port: 2049, MountPort: 20048, PortmapPort: 111, Portmap: true, Sync: true, SlowCall: time.Second},
		TFTP:    defaultTFTP(),
		DHCP:    defaultDHCP(),
		Reserve: 1 << 30,
		Quiet:   5*time.Minute + 30*time.Second,
		Log:     Log{Level: slog.LevelInfo},
		Control: Control{Group: "rubus"},
		Boot:    Boot{Refuse: true, FallbackAfter: 3, GoodWithin: 30 * time.Minute}, Netconsole: Netconsole{Port: 6666},
	}
}

// NeedsRestart lists the sections of rubus.yaml that differ between two
// Daemons: the daemon reads them once, when it starts.
func NeedsRestart(running, wanted Daemon) []string {
	a, b := reflect.ValueOf(running), reflect.ValueOf(wanted)
	names := map[string]string{
		"State": "state", "Listen": "listen", "NFS": "nfs", "TFTP": "tftp", "DHCP": "dhcp",
		"Reserve": "reserve", "Quiet": "quiet", "Log": "log", "Control": "control",
		"Boot": "boot", "Netconsole": "netconsole",
	}
	var out []string
	for i := range a.NumField() {
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, names[a.Type().Field(i).Name])
		}
	}
	return out
}

// daemonKeys are the keys of rubus.yaml.
func daemonKeys() []string {
	return []string{"state", "listen", "nfs", "tftp", "dhcp", "reserve", "quiet", "log", "control", "boot", "netconsole"}
}

// daemon reads rubus.yaml over the defaults.
func (r *reader) daemon(data []byte) Daemon {
	d := DefaultDaemon()
	root := r.document(data)
	if root == nil {
		return d
	}
	m := r.fields(root, "the file", daemonKeys(), map[string]string{
		"devices": "in devices.yaml", "defaults": "in devices.yaml", "groups": "in devices.yaml", "unknown": "in devices.yaml",
		"backend": "below \"nfs\"", "accept_unauthenticated_handles": "below \"nfs\"", "slow_call": "below \"nfs\"",
		"mode": "below \"dhcp\"", "range": "below \"dhcp\"", "lease": "below \"dhcp\"", "prefixes": "below \"tftp\"", "fallback_after": "below \"boot\"",
	})
	if n := m["state"]; n != nil {
		if w, ok := r.word(n, "state"); ok {
			if d.State = filepath.Clean(w.Value); !filepath.IsAbs(d.State) {
				r.addf(w, "state: want an absolute path, not %q", w.Value)
			}
		}
	}
	if n := m["listen"]; n != nil {
		d.Listen = r.listen(n)
	}
	if n := m["nfs"]; n != nil {
		f := r.fields(n, "nfs", []string{"backend", "accept_unauthenticated_handles", "port", "mount_port", "portmap_port", "portmap", "insecure_ports", "sync", "slow_call"}, nil)
		r.backend(f, &d.NFS)
		r.port(f["port"], "nfs.port", &d.NFS.Port)
		r.port(f["mount_port"], "nfs.mount_port", &d.NFS.MountPort)
		r.port(f["portmap_port"], "nfs.portmap_port", &d.NFS.PortmapPort)
		r.flag(f["portmap"], "nfs.portmap", &d.NFS.Portmap)
		r.flag(f["insecure_ports"], "nfs.insecure_ports", &d.NFS.InsecurePorts)
		r.flag(f["sync"], "nfs.sync", &d.NFS.Sync)
		if v := f["slow_call"]; v != nil {
			d.NFS.SlowCall = r.duration(v, "nfs.slow_call", 0, d.NFS.SlowCall)
		}
		r.distinctPorts(n.Line, d.NFS)
	}
	if n := m["tftp"]; n != nil {
		r.tftp(n, &d.TFTP)
	}
	if n := m["dhcp"]; n != nil {
		r.dhcp(n, &d.DHCP)
	}
	if n := m["reserve"]; n != nil {
		d.Reserve = r.size(n, "reserve", d.Reserve)
	}
	if n := m["quiet"]; n != nil {
		d.Quiet = r.duration(n, "quiet", time.Second, d.Quiet)
	}
	if n := m["log"]; n != nil {
		f := r.fields(n, "log", []string{"level", "format"}, nil)
		if v := f["level"]; v != nil {
			d.Log.Level = choose(r, v, "log.level", d.Log.Level, map[string]slog.Level{
				"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
			})
		}
		if v := f["format"]; v != nil {
			d.Log.JSON = choose(r, v, "log.format", d.Log.JSON, map[string]bool{"text": false, "json": true})
		}
	}
	if n := m["control"]; n != nil {
		if v := r.fields(n, "control", []string{"group"}, nil)["group"]; v != nil {
			if w, ok := r.word(v, "control.group"); ok {
				d.Control.Group = w.Value
			}
		}
	}
	if n := m["boot"]; n != nil {
		r.boot(n, &d.Boot)
	}
	if n := m["netconsole"]; n != nil {
		r.netconsole(n, &d.Netconsole)
	}
	return d
}

// distinctPorts wants each NFS program on a port of its own.
func (r *reader) distinctPorts(line int, n NFS) {
	ports := []struct {
		key  string
		port uint16
	}{{"port", n.Port}, {"mount_port", n.MountPort}, {"portmap_port", n.PortmapPort}}
	if !n.Portmap {
		ports = ports[:2]
	}
	for i, p := range ports {
		for _, q := range ports[:i] {
			if p.port == q.port {
				r.linef(line, "nfs: %s and %s are both %s", q.key, p.key, fmt.Sprint(p.port))
			}
		}
	}
}

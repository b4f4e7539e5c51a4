package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rubus/cmd/internal/ports"
)

// Port is a port that rubus wants.
type Port struct {
	Network string // "tcp" or "udp"
	Port    uint16
	For     string // "NFS"
	// Shared says that another program may have the port, too.
	Shared bool
}

// Ports tries the ports on the addresses. Own says whether a holder is rubus
// itself; nil: it does not run.
func Ports(wanted []Port, addrs []netip.Addr, own func(holder string) bool) []Finding {
	var out []Finding
	free := 0
	for _, p := range wanted {
		for _, a := range addrs {
			f, ok := tryPort(p, netip.AddrPortFrom(a, p.Port), own)
			if ok {
				free++
			} else {
				out = append(out, f)
			}
		}
	}
	if len(out) == 0 {
		out = append(out, Finding{Check: "ports", Level: OK, What: fmt.Sprintf("all %d ports are free, or rubus has them", free)})
	}
	return out
}

func tryPort(p Port, at netip.AddrPort, own func(string) bool) (Finding, bool) {
	err := bind(p.Network, at)
	if err == nil {
		return Finding{}, true
	}
	f := Finding{Check: "ports", Level: Failure}
	if !errors.Is(err, unix.EADDRINUSE) {
		f.What = fmt.Sprintf("port %d/%s (%s) cannot be opened on %s: %v", p.Port, p.Network, p.For, at.Addr(), err)
		f.Why, f.Do = "rubus cannot serve boards there", "run this as root, and check \"listen\" in rubus.yaml"
		return f, false
	}
	holder := ports.Holder(p.Network, at)
	if own != nil && own(holder) {
		return Finding{}, true
	}
	if holder == "" {
		holder = "another program"
	}
	f.What = fmt.Sprintf("port %d/%s (%s) on %s is held by %s", p.Port, p.Network, p.For, at.Addr(), holder)
	if p.Shared {
		f.Level = Note
		f.Why = "a DHCP server runs here; rubus listens beside it and changes nothing in it"
		return f, false
	}
	f.Why = "rubus does not start while another program has its port"
	f.Do = ports.Free(p.Port, holder) + "; or let rubus serve on another address with \"listen\" in rubus.yaml"
	return f, false
}

// bind opens a port as a server does, and closes it.
func bind(network string, at netip.AddrPort) error {
	var l interface{ Close() error }
	var err error
	if network == "tcp" {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	} else {
		l, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// Interface looks at one interface that rubus is to serve on.
func Interface(name string) Finding {
	f := Finding{Check: "interfaces", Level: Failure, Why: "boards cannot be heard there"}
	addrs, err := ports.Addresses(name, netip.Addr{})
	if err != nil {
		f.What, f.Do = err.Error(), "give it an IPv4 address, or name another one under \"listen\" in rubus.yaml"
		return f
	}
	if ifi, err := net.InterfaceByName(name); err != nil || ifi.Flags&net.FlagRunning == 0 {
		f.What, f.Do = fmt.Sprintf("interface %s has no link", name), "plug in its cable, or bring it up with \"ip link set "+name+" up\""
		return f
	}
	var words []string
	for _, a := range addrs {
		words = append(words, a.String())
	}
	return Finding{Check: "interfaces", Level: OK, What: fmt.Sprintf("%s is up, %s", name, strings.Join(words, ", "))}
}

// State looks at the directory for images and boards' files. Probe tries
// whether its file system carries boards' roots.
func State(ctx context.Context, dir string, reserve int64, probe func(context.Context, string) error) []Finding {
	at := dir
	for {
		_, err := os.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == "/" {
			return []Finding{{
				Check: "state", Level: Failure, What: err.Error(),
				Why: "rubus keeps images and the boards' own files there", Do: "run this as root, or name another directory with \"state\" in rubus.yaml",
			}}
		}
		at = filepath.Dir(at) // "serve" makes what is missing
	}
	f := Finding{Check: "state", Level: OK, What: fmt.Sprintf("overlayfs with nfs_export works on %s", at)}
	if err := probe(ctx, at); err != nil {
		f = Finding{
			Check: "state", Level: Failure, What: err.Error(), Why: "a board's root is an overlay whose files have handles",
			Do: "put the state directory on ext4, xfs or btrfs of this machine, not on NFS, overlayfs or tmpfs without xattrs",
		}
	}
	return append([]Finding{f}, space(at, reserve))
}

func space(dir string, reserve int64) Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Finding{Check: "space", Level: Failure, What: fmt.Sprintf("%s: %v", dir, err)}
	}
	free := int64(st.Bavail) * st.Bsize
	what := fmt.Sprintf("%d MiB are free at %s", free>>20, dir)
	switch {
	case free <= reserve:
		return Finding{
			Check: "space", Level: Failure, What: what, Why: fmt.Sprintf("%d MiB are kept for rubus itself: boards cannot write at all", reserve>>20),
			Do: "make room, or lower \"reserve\" in rubus.yaml",
		}
	case free < reserve+4<<30:
		return Finding{Check: "space", Level: Warning, What: what, Why: "an image takes 1 to 5 GiB, and boards write beside it", Do: "make room"}
	}
	return Finding{Check: "space", Level: OK, What: what}
}

// Limits looks at what the kernel allows.
func Limits() []Finding {
	var out []Finding
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil && lim.Max < 65536 {
		out = append(out, Finding{
			Check: "limits", Level: Warning, What: fmt.Sprintf("a process may have %d files open", lim.Max),
			Why: "the files of many boards are kept open by handle; with few, they are opened again and again",
			Do:  "the systemd unit raises it (LimitNOFILE); for a daemon of your own say \"ulimit -Hn 262144\"",
		})
	}
	if n, err := number("/proc/sys/fs/mount-max"); err == nil && n < 10000 {
		out = append(out, Finding{
			Check: "limits", Level: Warning, What: fmt.Sprintf("%d mounts are allowed", n),
			Why: "each board's root is a mount", Do: "sysctl fs.mount-max=100000",
		})
	}
	if len(out) == 0 {
		out = append(out, Finding{Check: "limits", Level: OK, What: "open files and mounts are enough for a thousand boards"})
	}
	return out
}

func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// Clock looks at the time. Built is when the program was made: the time is
// later.
func Clock(now, built time.Time) Finding {
	if now.Before(built) {
		return Finding{
			Check: "time", Level: Failure, What: "the clock says " + now.UTC().Format(time.DateOnly), Why: "boards without a clock take the time of their files; logs are of no use",
			Do: "set the clock: \"timedatectl set-ntp true\"",
		}
	}
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err == nil && (state == timeError || tx.Status&unix.STA_UNSYNC != 0) {
		return Finding{
			Check: "time", Level: Note, What: "the clock is not kept by a time server",
			Why: "boards have no clock of their own and start with the time of their root's files", Do: "timedatectl set-ntp true",
		}
	}
	return Finding{Check: "time", Level: OK, What: "the clock is kept by a time server"}
}

// timeError is TIME_ERROR of adjtimex(2): the clock is not synchronised.
const timeError = 5

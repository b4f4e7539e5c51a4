package knfsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"

	"rubus/nfsexport/portmap"
)

// Lack says what of its NFS server the host lacks.
type Lack struct {
	What string
	// Do is what to do about it.
	Do string
}

// Error implements error.
func (l *Lack) Error() string { return "the kernel's NFS server: " + l.What }

// Hint is what to do about it, for people.
func (l *Lack) Hint() string { return l.Do }

// What to do about a Lack.
const (
	doInstall = "sudo apt install nfs-kernel-server && sudo systemctl enable --now nfs-server"
	doStart   = "sudo systemctl enable --now nfs-server rpcbind"
)

// The MOUNT program (RFC 1813 appendix I).
const (
	mountProgram = 100005
	mountVersion = 3
)

// Check says what of its NFS server the host lacks: a *Lack, or another error.
func Check(ctx context.Context) error { return check(ctx, nfsdDir, portMapper()) }

// check looks at nfsd's own files in dir, and asks a port mapper.
func check(ctx context.Context, dir string, mapper netip.AddrPort) error {
	if _, err := exec.LookPath("exportfs"); err != nil {
		return &Lack{"there is no exportfs on this host", doInstall}
	}
	threads, err := os.ReadFile(filepath.Join(dir, "threads"))
	if errors.Is(err, fs.ErrNotExist) {
		return &Lack{"nfsd is not loaded, or its file system is not mounted on " + dir, doInstall}
	}
	if err != nil {
		return fmt.Errorf("asking the kernel's NFS server: %w", err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(threads))); err != nil || n == 0 {
		return &Lack{"it is not started", doStart}
	}
	versions, err := os.ReadFile(filepath.Join(dir, "versions"))
	if err != nil {
		return fmt.Errorf("asking the kernel's NFS server: %w", err)
	}
	if !slices.Contains(strings.Fields(string(versions)), "+3") {
		return &Lack{"it does not serve NFS version 3", "vers3=y below [nfsd] in /etc/nfs.conf, then: sudo systemctl restart nfs-server"}
	}
	ports, err := nfsPorts(dir)
	if err != nil {
		return err
	}
	if len(ports) == 0 {
		return &Lack{"it does not listen to TCP", "tcp=y below [nfsd] in /etc/nfs.conf, then: sudo systemctl restart nfs-server"}
	}
	port, err := mountPort(ctx, mapper, portmap.TCP)
	switch {
	case err != nil:
		return &Lack{fmt.Sprintf("no rpcbind answers, by which boards find it (%v)", err), doStart}
	case port == 0:
		return &Lack{"no rpc.mountd has told rpcbind of itself, which answers boards' MOUNTs", doStart}
	}
	return nil
}

// portMapper is where the host's rpcbind listens.
func portMapper() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), portmap.Port)
}

// mountPort asks a port mapper where MOUNT is answered; 0: nowhere.
func mountPort(ctx context.Context, mapper netip.AddrPort, protocol portmap.Protocol) (uint16, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return portmap.Lookup(ctx, mapper, portmap.Mapping{Program: mountProgram, Version: mountVersion, Protocol: protocol})
}

// MountPorts are the ports of the host's rpc.mountd; 0: none that its port mapper
// knows of.
func MountPorts(ctx context.Context) (tcp, udp uint16) {
	tcp, _ = mountPort(ctx, portMapper(), portmap.TCP)
	udp, _ = mountPort(ctx, portMapper(), portmap.UDP)
	return tcp, udp
}

// nfsPorts are the TCP ports that nfsd listens at, by its own files in dir.
func nfsPorts(dir string) (ports []uint16, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "portlist"))
	if err != nil {
		return nil, fmt.Errorf("asking for the ports of the kernel's NFS server: %w", err)
	}
	for l := range strings.Lines(string(text)) {
		f := strings.Fields(l)
		if len(f) < 2 || f[0] != "tcp" {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 16); err == nil && !slices.Contains(ports, uint16(n)) {
			ports = append(ports, uint16(n))
		}
	}
	return ports, nil
}

// Listens says whether nfsd listens at a port.
func Listens(port uint16) (bool, error) {
	ports, err := nfsPorts(nfsdDir)
	return slices.Contains(ports, port), err
}

// OwnFileSystem is an error unless a directory is the top of a file system that is
// mounted there and nowhere else. Who can forge file handles reaches all of the file
// system that a root lies on, whatever of it is exported.
func OwnFileSystem(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("reading the list of mounts: %w", err)
	}
	return ownFileSystem(dir, all)
}

func ownFileSystem(dir string, all []*mountinfo.Info) error {
	var own *mountinfo.Info
	for _, m := range all {
		if m.Mountpoint == dir {
			own = m // the last one is on top
		}
	}
	if own == nil {
		return fmt.Errorf("%q is not a file system of its own, but a directory of another", dir)
	}
	if own.Root != "/" {
		return fmt.Errorf("%q is only a part of its file system (%q of %s)", dir, own.Root, own.Source)
	}
	for _, m := range all {
		sameDevice := m.Major == own.Major && m.Minor == own.Minor
		// Subvolumes of btrfs have device numbers of their own.
		sameSource := strings.HasPrefix(own.Source, "/") && m.Source == own.Source && m.FSType == own.FSType
		if m.Mountpoint != dir && (sameDevice || sameSource) {
			return fmt.Errorf("the file system of %q is mounted on %q, too", dir, m.Mountpoint)
		}
	}
	return nil
}

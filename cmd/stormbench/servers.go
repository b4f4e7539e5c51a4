package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rubus/boot/fakepi/child"
	"rubus/images"
	"rubus/images/imageref"
)

// service is what serves boards: one program, or several.
type service struct {
	name  string
	parts []part
	undo  []func()
}

// part is a program, and where it writes what it has to say.
type part struct {
	*child.Process
	log string
}

// ended is an error when the program has ended.
func (p part) ended() error {
	select {
	case <-p.Done():
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("a server ended: %w\n%s", p.Err(), text[max(0, len(text)-2000):])
	default:
		return nil
	}
}

// used is what a service has taken.
type used struct {
	cpu     time.Duration
	rss     int64 // bytes, now
	fds     int
	threads int
}

// used asks the kernel.
func (s *service) used() (u used, err error) {
	for _, p := range s.parts {
		if err := p.ended(); err != nil {
			return u, err
		}
		cpu, err := usedBy(p.Pid())
		if err != nil {
			return u, fmt.Errorf("%s: %w", s.name, err)
		}
		u.cpu += cpu
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
		if err != nil {
			return u, err
		}
		u.rss += field(status, "VmRSS:") << 10
		u.threads += int(field(status, "Threads:"))
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
		if err != nil {
			return u, err
		}
		u.fds += len(fds)
	}
	return u, nil
}

// usedBy is the processor time that a process has taken.
func usedBy(pid int) (time.Duration, error) {
	const sched = 2 // the clock of clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

func field(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

func (s *service) stop() {
	for _, p := range s.parts {
		p.Stop(20 * time.Second)
	}
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
}

// start starts a program of the service, with its output in a file.
func (s *service) start(log string, env []string, name string, args ...string) error {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	p, err := child.Start(cmd)
	if err != nil {
		return err
	}
	s.parts = append(s.parts, part{p, log})
	return nil
}

// listening waits until something takes a connection at a port of the server.
func (s *service) listening(ctx context.Context, port int) error {
	return s.until(ctx, fmt.Sprintf("does not listen on port %d", port), func() bool {
		c, err := net.Dial("tcp4", net.JoinHostPort(serverAddr, strconv.Itoa(port)))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// said waits until a program's log has a word.
func (s *service) said(ctx context.Context, log, word string) error {
	return s.until(ctx, fmt.Sprintf("does not say %q", word), func() bool {
		text, _ := os.ReadFile(log) // not there yet: it says nothing
		return bytes.Contains(text, []byte(word))
	})
}

// until waits for what the last program of the service is to do.
func (s *service) until(ctx context.Context, lack string, ok func() bool) error {
	p := s.parts[len(s.parts)-1]
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		if ok() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			return p.ended()
		case <-tick.C:
		}
	}
	return fmt.Errorf("%s %s", s.name, lack)
}

// startRubus starts rubus with a device for each board.
func startRubus(ctx context.Context, o *options, boards int) (*service, error) {
	s := &service{name: "rubus"}
	at := func(name string) string { return filepath.Join(o.dir, name) }
	devices := "version: 1\ndevices:\n"
	for n := range boards {
		serial, mac, err := identity(n)
		if err != nil {
			return nil, err
		}
		devices += fmt.Sprintf("  - {serial: %q, mac: %q, image: lab}\n", serial, mac)
	}
	conf := fmt.Sprintf("listen: [%s]\ncontrol: {group: root}\ndhcp: {mode: server, range: %s-%s}\nnfs: {sync: %v}\n", serverCard, firstAddr, lastAddr, o.sync)
	if err := errors.Join(os.WriteFile(at("devices.yaml"), []byte(devices), 0o600), os.WriteFile(at("rubus.yaml"), []byte(conf), 0o600)); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() { // rubus leaves boards their roots
		roots, _ := filepath.Glob(filepath.Join(o.state, "roots/*/*"))
		for _, r := range roots {
			_ = unix.Unmount(r, unix.MNT_DETACH)
		}
	})
	log := at("run/rubus.log") // not beside the configuration: it would be looked at for each line
	err := s.start(log, nil, o.rubus, "serve", "--state", o.state, "--run", at("run"), "--devices", at("devices.yaml"), "--config", at("rubus.yaml"))
	if err == nil {
		// It listens first for other servers that give out addresses.
		err = s.said(ctx, log, "giving out addresses")
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// startOthers starts dnsmasq for DHCP and TFTP and ganesha for NFS, over overlays
// that are mounted for them.
func startOthers(ctx context.Context, o *options, boards int) (_ *service, err error) {
	s := &service{name: "dnsmasq + ganesha"}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	at := func(name string) string { return filepath.Join(o.dir, "others", name) }
	store, err := images.Open(filepath.Join(o.state, "images"))
	if err != nil {
		return nil, err
	}
	image, err := store.Resolve(imageref.Ref{Name: "lab"})
	if err != nil {
		return nil, err
	}
	layers := strings.Join(store.LayerDirs(image), ":")
	ganesha := "NFS_CORE_PARAM { Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }\nLOG { Default_Log_Level = WARN; }\n"
	for n := range boards {
		serial, _, err := identity(n)
		if err != nil {
			return nil, err
		}
		root, err := s.mountRoot(layers, at(serial.String()))
		if err != nil {
			return nil, err
		}
		if err := bootFiles(at("tftp/"+serial.String()), root); err != nil {
			return nil, err
		}
		ganesha += fmt.Sprintf("EXPORT { Export_Id = %d; Path = %q; Pseudo = %q; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; "+
			"MaxRead = 1048576; MaxWrite = 1048576; PrefRead = 1048576; PrefWrite = 1048576; FSAL { Name = VFS; } }\n", 100+n, root, "/"+serial.String())
	}
	err = s.start(at("dnsmasq.log"), nil, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=",
		"--bind-interfaces", "--interface="+serverCard, "--no-ping", "--log-facility=-", "--dhcp-leasefile="+at("leases"), "--dhcp-lease-max=2000",
		"--dhcp-range="+firstAddr+","+lastAddr+",1h", "--pxe-service=0,Raspberry Pi Boot",
		"--enable-tftp", "--tftp-root="+at("tftp"), "--tftp-max=2000")
	if err != nil {
		return nil, err
	}
	env := []string{"LD_LIBRARY_PATH=/usr/lib/ganesha"}
	for _, dir := range []string{"/run/rpcbind", "/run/ganesha", "/var/lib/nfs/ganesha"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command(firstOf(o.ganesha+"/sbin/rpcbind", o.ganesha+"/usr/sbin/rpcbind"), "-w").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("starting rpcbind: %w: %s", err, out)
	}
	if err := os.WriteFile(at("ganesha.conf"), []byte(ganesha), 0o600); err != nil {
		return nil, err
	}
	log := at("ganesha.log")
	err = s.start(log, env, firstOf(o.ganesha+"/usr/bin/ganesha.nfsd", o.ganesha+"/usr/sbin/ganesha.nfsd"), "-F", "-f", at("ganesha.conf"), "-L", log, "-p", "/run/ganesha.pid")
	if err == nil {
		err = s.listening(ctx, 2049)
	}
	if err == nil {
		err = s.listening(ctx, 20048)
	}
	return s, err
}

// mountRoot mounts a board's overlay over an image's layers, as rubus does.
func (s *service) mountRoot(layers, dir string) (string, error) {
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	root := filepath.Join(dir, "root")
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,nfs_export=on,index=on", layers, dir, dir)
	if err := unix.Mount("overlay", root, "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return "", fmt.Errorf("mounting an overlay: %w", err)
	}
	s.undo = append(s.undo, func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	return root, nil
}

// bootFiles makes the directory that a board's firmware reads: the files of its root, and
// a command line of its own.
func bootFiles(dir, root string) error {
	from := filepath.Join(root, "boot/firmware")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() == "cmdline.txt" {
			continue
		}
		if err := os.Symlink(filepath.Join(from, f.Name()), filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	line := fmt.Sprintf("console=ttyS1,115200 root=/dev/nfs nfsroot=%s:%s,vers=3,tcp rw ip=dhcp\n", serverAddr, root)
	return os.WriteFile(filepath.Join(dir, "cmdline.txt"), []byte(line), 0o644)
}

func firstOf(paths ...string) string {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return paths[0]
}

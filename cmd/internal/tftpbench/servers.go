package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	pin "github.com/pin/tftp/v3"
	"golang.org/x/sys/unix"

	"rubus/boot/bootfs"
	"rubus/boot/tftp"
)

// server is one way to serve a directory on port 69 of all addresses.
type server struct {
	name string
	args func(self, dir string) []string
}

func serverNamed(name string) (server, error) {
	for _, s := range []server{
		{"rubus", func(self, dir string) []string { return []string{self, "-serve", "rubus", "-dir", dir} }},
		{"pin", func(self, dir string) []string { return []string{self, "-serve", "pin", "-dir", dir} }},
		{"dnsmasq", func(_, dir string) []string {
			return []string{
				"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--enable-tftp", "--tftp-root=" + dir,
				"--tftp-max=1000", "--user=root", "--log-facility=-", "--pid-file=",
			}
		}},
		{"atftpd", func(_, dir string) []string {
			return []string{
				"atftpd", "--daemon", "--no-fork", "--user", "root", "--group", "root", "--maxthread", "1000",
				"--no-multicast", "--logfile", "/dev/null", dir,
			}
		}},
	} {
		if s.name == name {
			return s, nil
		}
	}
	return server{}, fmt.Errorf("no server %q", name)
}

// process is a server at work.
type process struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

func (s server) start(ctx context.Context, dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := s.args(self, dir)
	p := &process{cmd: exec.CommandContext(ctx, args[0], args[1:]...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// cpu is what the process has used, of its ended threads too. The kernel's work
// for a packet that is sent over the loopback interface is the sender's.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// proc(5): the fields behind the name in parentheses begin with the third;
	// utime is the 14th, stime the 15th, in ticks of 10 ms.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading /proc/%d/stat: %d fields", p.cmd.Process.Pid, len(fields))
	}
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(string(f))
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	if ticks == 0 && fields[0][0] == 'Z' {
		return 0, fmt.Errorf("the server ended: %s", p.out.Bytes())
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// be is a server of this module's, or the library's alone.
func be(ctx context.Context, name, dir string) error {
	addr := netip.MustParseAddrPort("0.0.0.0:69")
	conn, err := tftp.Listen(ctx, addr)
	if err != nil {
		return err
	}
	switch name {
	case "rubus":
		s := tftp.Server{Handler: directory(dir), MaxTransfers: 2000, MaxPerClient: 2000}
		return s.Serve(ctx, conn)
	case "pin":
		s := pin.NewServer(func(path string, rf io.ReaderFrom) error {
			f, err := os.Open(filepath.Join(dir, filepath.Base(path)))
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = rf.ReadFrom(f)
			return err
		}, nil)
		context.AfterFunc(ctx, s.Shutdown)
		return s.Serve(conn)
	}
	return fmt.Errorf("no server %q", name)
}

// directory serves the files of one.
type directory string

// Open implements tftp.Handler.
func (d directory) Open(_ context.Context, r tftp.Request) (tftp.File, error) {
	f, err := os.Open(filepath.Join(string(d), filepath.Base(r.Path)))
	if errors.Is(err, unix.ENOENT) {
		return nil, tftp.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	file, err := bootfs.FromFile(f) // as boards get theirs
	if err != nil {
		f.Close()
		return nil, err
	}
	return file, nil
}

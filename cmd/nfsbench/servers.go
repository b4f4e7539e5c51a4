package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsload"
)

// Where all servers listen, in a network namespace of their own.
const (
	nfsAddr   = "127.0.0.1:2049"
	mountAddr = "127.0.0.1:20048"
	rawAddr   = "127.0.0.1:2050"
)

// process is a server that was started.
type process struct {
	cmd *exec.Cmd
}

// start starts a program that ends with this one, with its output in log.
func start(log string, env []string, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd: cmd}, nil
}

// stop ends it and waits for that.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	ended := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	ended.Stop()
}

// cpu is the time that the process took of the processor, its threads that ended
// and its system calls included: the clock of clock_getcpuclockid(3).
func (p *process) cpu() (time.Duration, error) {
	const sched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|sched), &ts); err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", p.cmd.Path, err)
	}
	return time.Duration(ts.Nano()), nil
}

// serverKind is a server to compare.
type serverKind struct {
	name  string
	start func(ctx context.Context, w *world, log string) (*process, error)
}

func ours(o *options) serverKind {
	return serverKind{name: "rubus", start: func(_ context.Context, w *world, log string) (*process, error) {
		return start(log, nil, "/proc/self/exe", "serve", w.disk, filepath.Join(o.run, "nfsbench.replies"), o.profile)
	}}
}

// ganesha needs its files to lie where its packages put them, and a private /run
// and /var/lib: scripts/bench sees to that.
func ganesha(o *options) (serverKind, error) {
	env := []string{"LD_LIBRARY_PATH=/usr/lib/ganesha"}
	k := serverKind{name: "ganesha"}
	for _, dir := range []string{"/run/rpcbind", "/run/ganesha", "/var/lib/nfs/ganesha"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return k, err
		}
	}
	if out, err := exec.Command(firstOf(o.ganesha+"/sbin/rpcbind", o.ganesha+"/usr/sbin/rpcbind"), "-w").CombinedOutput(); err != nil {
		return k, fmt.Errorf("starting rpcbind: %w: %s", err, out)
	}
	k.start = func(_ context.Context, w *world, log string) (*process, error) {
		conf := filepath.Join(o.dir, "ganesha.conf")
		var exports string
		for i, path := range []string{w.root, w.next} {
			exports += fmt.Sprintf("EXPORT { Export_Id = %d; Path = %q; Pseudo = /board%d; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; MaxRead = 1048576; MaxWrite = 1048576; PrefRead = 1048576; PrefWrite = 1048576; FSAL { Name = VFS; } }\n", 101+i, path, i)
		}
		text := `NFS_CORE_PARAM { Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }
` + exports + `LOG { Default_Log_Level = WARN; }
`
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return nil, err
		}
		return start(log, env, firstOf(o.ganesha+"/usr/bin/ganesha.nfsd", o.ganesha+"/usr/sbin/ganesha.nfsd"), "-F", "-f", conf, "-L", log, "-p", "/run/ganesha.pid")
	}
	return k, nil
}

func firstOf(paths ...string) string {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return paths[0]
}

// until tries f until it works, while p runs, for at most a minute.
func until(ctx context.Context, p *process, f func() error) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		if err == nil {
			return nil
		}
		var info unix.Siginfo
		ended := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil && info.Signo != 0
		if ended || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// connect waits until a server answers, and gives the roots of w.
func connect(ctx context.Context, p *process, w *world) (c *nfsload.Conn, root, next nfsload.Handle, err error) {
	err = until(ctx, p, func() error {
		c, root, next, err = tryConnect(w)
		return err
	})
	return c, root, next, err
}

func tryConnect(w *world) (c *nfsload.Conn, root, next nfsload.Handle, err error) {
	m, err := nfsload.Dial(mountAddr)
	if err != nil {
		return nil, nil, nil, err
	}
	defer m.Close()
	if root, err = m.Mount(w.root); err == nil {
		next, err = m.Mount(w.next)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	c, err = nfsload.Dial(nfsAddr)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := c.Do(nfsload.NFS(nfs3.ProcNull, nil))
	if err == nil && !r.Accepted {
		err = fmt.Errorf("NULL was refused")
	}
	if err != nil {
		c.Close()
		return nil, nil, nil, err
	}
	return c, root, next, nil
}

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what fits into a unix socket's address with its final NUL.
const maxSocketPath = 107

// Listen makes the control socket at path: root and the group may use it, and
// nobody else. A group that does not exist leaves it to root, which is said in
// the log. A socket that an earlier daemon left is replaced, so the caller
// holds the Lock of the directory.
func Listen(path, group string, log *slog.Logger) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket %q: the path is longer than %d bytes", path, maxSocketPath)
	}
	mode, gid := fs.FileMode(0o600), -1
	if g, err := user.LookupGroup(group); err == nil {
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, fmt.Errorf("group %q has the id %q: %w", group, g.Gid, err)
		}
		mode = 0o660
	} else {
		log.Info("only root can use the control socket: there is no such group", "group", group, "path", path)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("control socket %q: something that is no socket is there", path)
	}
	// It gets its name when its mode is right: a socket is made with the mode
	// of the umask, which belongs to the whole process.
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".c")
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	defer os.RemoveAll(tmp)
	dir, err := os.Open(tmp)
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	defer dir.Close()
	// By way of the descriptor the name is short, however long path is.
	short := fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd())
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	made := filepath.Join(tmp, "s")
	err = errors.Join(os.Chmod(made, mode), os.Chown(made, -1, gid))
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	return &listener{ln, path}, nil
}

// listener removes the socket when it is closed.
type listener struct {
	*net.UnixListener
	path string
}

// Close implements net.Listener.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if rerr := os.Remove(l.path); err == nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	return err
}

// caller is the process at the other end of a connection.
type caller struct {
	uid uint32
	pid int32
}

type callerKey struct{}

// withCaller asks the kernel who connected (SO_PEERCRED, unix(7)). It is the
// process that called connect(2), whoever uses the connection later.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	who := caller{uid: ^uint32(0)}
	if uc, ok := c.(*net.UnixConn); ok {
		if raw, err := uc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					who = caller{cred.Uid, cred.Pid}
				}
			})
		}
	}
	return context.WithValue(ctx, callerKey{}, who)
}

// attrs is the caller for the log. The login is who once logged in, whatever
// sudo made of him since (audit's loginuid, which only a privileged process can
// set, and once); it is left out where it says nothing new.
func (c caller) attrs() []any {
	attrs := []any{"uid", c.uid, "pid", c.pid}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", c.pid))
	if err != nil {
		return attrs
	}
	login, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err == nil && uint32(login) != c.uid && uint32(login) != ^uint32(0) {
		attrs = append(attrs, "login", login)
	}
	return attrs
}

func callerOf(ctx context.Context) caller {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who
}

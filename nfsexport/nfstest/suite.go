package nfstest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// check is one thing a file system must do. It has a directory of its own.
type check struct {
	name string
	f    func(e *env)
}

// groups are all checks.
var groups = []struct {
	name   string
	kernel bool // only for clients that go through a kernel
	checks []check
}{
	{"names", false, nameChecks},
	{"create", false, createChecks},
	{"attributes", false, attrChecks},
	{"times", false, timeChecks},
	{"permissions", false, permChecks},
	{"set-id", false, setidChecks},
	{"data", false, dataChecks},
	{"remove", false, removeChecks},
	{"rename", false, renameChecks},
	{"links", false, linkChecks},
	{"directories", false, dirChecks},
	{"golden", false, goldenChecks},
	{"open", true, openChecks},
	{"nodes", true, nodeChecks},
	{"beyond", true, beyondChecks},
}

// Run runs the whole suite on c, one subtest per check, each in a new directory
// of its own below the root. c must be root's view of an overlay over a layer
// that Golden filled. restart ends the server and starts it again, if there is one.
func Run(t *testing.T, c Client, restart func() error) {
	for _, group := range groups {
		if group.kernel && !c.Kernel() {
			continue
		}
		t.Run(group.name, func(t *testing.T) {
			for _, ch := range group.checks {
				t.Run(ch.name, func(t *testing.T) { runCheck(t, c, restart, group.name, ch) })
			}
		})
	}
}

func runCheck(t *testing.T, c Client, restart func() error, group string, ch check) {
	dir := "nfstest." + group + "." + strings.ReplaceAll(ch.name, " ", "-")
	removeAll(c, dir)
	e := &env{T: t, Client: c, dir: dir, restarts: restart}
	e.must(c.Mkdir(dir, 0o777))
	e.must(c.Chmod(dir, 0o777))
	ch.f(e)
	removeAll(c, dir)
}

// removeAll removes a tree and says nothing: what cannot go is the business of
// the checks.
func removeAll(c Client, path string) {
	if c.Unlink(path) == nil {
		return
	}
	d, err := c.OpenDir(path)
	if err != nil {
		return
	}
	var all []string
	for {
		names, err := d.Next()
		if err != nil || len(names) == 0 {
			break
		}
		for _, n := range names {
			all = append(all, n.Name)
		}
	}
	d.Close()
	for _, n := range all {
		removeAll(c, path+"/"+n)
	}
	c.Rmdir(path)
}

// env is what a check works with: the file system as root sees it, and a
// directory.
type env struct {
	*testing.T
	Client
	dir      string
	restarts func() error
}

// restart restarts the server, where there is one.
func (e *env) restart() error {
	if e.restarts == nil {
		return nil
	}
	return e.restarts()
}

// p is the path of a name in the check's directory.
func (e *env) p(name string) string { return e.dir + "/" + name }

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("unexpected error: %v", err)
	}
}

// fails wants one of some errors.
func (e *env) fails(err error, want ...unix.Errno) {
	e.Helper()
	var got unix.Errno
	if err != nil && !errors.As(err, &got) {
		e.Fatalf("got error %v, which is no errno", err)
	}
	if !slices.Contains(want, got) {
		e.Errorf("got %v, want %v", err, want)
	}
}

// file makes a regular file and gives its path.
func (e *env) file(name string, mode uint32, data string) string {
	e.Helper()
	f, err := e.Open(e.p(name), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, mode)
	e.must(err)
	if data != "" {
		e.write(f, 0, data)
	}
	e.must(f.Close())
	e.must(e.Chmod(e.p(name), mode))
	return e.p(name)
}

func (e *env) mkdir(name string, mode uint32) string {
	e.Helper()
	e.must(e.Mkdir(e.p(name), mode))
	e.must(e.Chmod(e.p(name), mode))
	return e.p(name)
}

func (e *env) write(f File, off int64, data string) {
	e.Helper()
	n, err := f.WriteAt([]byte(data), off)
	if err != nil || n != len(data) {
		e.Fatalf("writing %d bytes at %d: %d, %v", len(data), off, n, err)
	}
}

func (e *env) stat(path string) unix.Stat_t {
	e.Helper()
	st, err := e.Lstat(path)
	e.must(err)
	return st
}

func (e *env) mode(path string, want uint32) {
	e.Helper()
	if got := e.stat(path).Mode & 0o7777; got != want {
		e.Errorf("%s has mode %04o, want %04o", path, got, want)
	}
}

func (e *env) owner(path string, uid, gid uint32) {
	e.Helper()
	if st := e.stat(path); st.Uid != uid || st.Gid != gid {
		e.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
}

func (e *env) content(path, want string) {
	e.Helper()
	f, err := e.Open(path, unix.O_RDONLY, 0)
	e.must(err)
	defer f.Close()
	buf := make([]byte, len(want)+10)
	n, err := f.ReadAt(buf, 0)
	e.must(err)
	if string(buf[:n]) != want {
		e.Errorf("%s holds %.60q, want %.60q", path, buf[:n], want)
	}
}

// list gives the names of a directory in order, and fails on a name that comes
// twice.
func (e *env) list(path string) []string {
	e.Helper()
	d, err := e.OpenDir(path)
	e.must(err)
	defer d.Close()
	var all []string
	for {
		names, err := d.Next()
		e.must(err)
		if len(names) == 0 {
			break
		}
		for _, n := range names {
			all = append(all, n.Name)
		}
	}
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			e.Errorf("%q is listed twice", all[i])
		}
	}
	return all
}

func (e *env) names(path string, want ...string) {
	e.Helper()
	slices.Sort(want)
	if got := e.list(path); !slices.Equal(got, want) {
		e.Errorf("%s holds %s, want %s", path, short(got), short(want))
	}
}

// left is names once a kernel's client has removed what it kept for open files,
// which it does behind the last close.
func (e *env) left(path string, want ...string) {
	e.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if !slices.ContainsFunc(e.list(path), func(n string) bool { return strings.HasPrefix(n, ".nfs") }) {
			break
		}
	}
	e.names(path, want...)
}

func short(s []string) string {
	if len(s) > 10 {
		return fmt.Sprintf("%q... (%d)", s[:10], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// kinds are all types of objects, with a way to make each.
var kinds = []struct {
	name string
	typ  uint32
	make func(e *env, path string) error
}{
	{"file", unix.S_IFREG, func(e *env, p string) error { return e.Mknod(p, unix.S_IFREG|0o644, 0) }},
	{"dir", unix.S_IFDIR, func(e *env, p string) error { return e.Mkdir(p, 0o755) }},
	{"symlink", unix.S_IFLNK, func(e *env, p string) error { return e.Symlink("nowhere", p) }},
	{"fifo", unix.S_IFIFO, func(e *env, p string) error { return e.Mknod(p, unix.S_IFIFO|0o644, 0) }},
	{"socket", unix.S_IFSOCK, func(e *env, p string) error { return e.Mknod(p, unix.S_IFSOCK|0o644, 0) }},
	{"char", unix.S_IFCHR, func(e *env, p string) error { return e.Mknod(p, unix.S_IFCHR|0o644, unix.Mkdev(1, 3)) }},
	{"block", unix.S_IFBLK, func(e *env, p string) error { return e.Mknod(p, unix.S_IFBLK|0o644, unix.Mkdev(259, 70000)) }},
}

// The users of the checks: two with a group each.
const (
	alice, alices = 3001, 4001
	bob, bobs     = 3002, 4002
	common        = 4444
)

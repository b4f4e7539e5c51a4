package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// ownCalls makes the system calls that our server makes for an operation, over the
// same overlay and with nothing around them, and gives what each operation costs in
// microseconds. It is what is left when a server of this kind is perfect.
func ownCalls(w *world) (map[string]float64, error) {
	runtime.LockOSThread() // its clock is a thread's
	defer runtime.UnlockOSThread()
	c := caller{fd: map[string]int{}}
	defer c.close()
	path := func(name string) string { return filepath.Join(w.root, name) }
	for name, flags := range map[string]int{
		path(madeDir(0)):              unix.O_PATH,
		w.big:                         unix.O_RDONLY, // in its layer, as the server reads it
		path(madeDir(0) + "/written"): unix.O_RDWR,
	} {
		c.fd[name] = c.must(unix.Open(name, flags|unix.O_CLOEXEC, 0))
	}
	dir, big, written := c.fd[path(madeDir(0))], c.fd[w.big], c.fd[path(madeDir(0)+"/written")]
	us := map[string]float64{}
	// GETATTR, ACCESS, LOOKUP and a listing that is asked for again make none.
	for name, size := range map[string]int{"4K": 4 * kib, "128K": 128 * kib, "1M": 1024 * kib} {
		buf := make([]byte, size)
		n := bigFile / size
		us["READ-"+name] = c.time(min(20000, 16*n), 1, func(i int) {
			c.must(unix.Pread(big, buf, int64(i*7%n*size)))
		})
		if size > 128*kib {
			continue
		}
		n = writtenFile / size
		together := 1
		if size == 4*kib {
			together = 16 // as many as are in flight on a connection
		}
		us["WRITE-"+name] = c.time(min(20000, 8*n), 1, func(i int) {
			if i%together == 0 {
				c.fstat(written)
			}
			c.must(unix.Pwrite(written, buf, int64(i*7%n*size)))
			if i%together == together-1 {
				c.fstat(written)
			}
		})
	}
	const made = 2000
	fds := make([]int, made)
	us["CREATE"] = c.time(made, 1, func(i int) {
		fds[i] = c.must(unix.Openat(dir, fmt.Sprintf("own-%05d", i), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o644))
		c.fstat(fds[i])
		c.fstat(fds[i])
		c.handle(fds[i], "", unix.AT_EMPTY_PATH)
		c.fstat(fds[i])
		c.fstat(dir)
	})
	us["REMOVE"] = c.time(made, 1, func(i int) {
		name := fmt.Sprintf("own-%05d", i)
		c.handle(dir, name, 0)
		c.must(0, unix.Unlinkat(dir, name, 0))
		c.must(0, unix.Close(fds[i]))
		c.fstat(dir)
	})
	us["LIST-ONCE"] = c.time(ownOnce, onceEntries, func(i int) {
		n := 2*listedOnce + i
		// As of a golden directory: its names by the overlay, the rest by the layer.
		golden := c.must(unix.Open(filepath.Join(w.disk, "lower", onceDir(n)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		fd := c.must(unix.Open(path(onceDir(n)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		for buf := make([]byte, 64*kib); c.must(unix.Getdents(fd, buf)) > 0; {
		}
		for k := range onceEntries {
			name := onceEntry(n, k)
			c.must(0, unix.Fstatat(golden, name, &c.st, unix.AT_SYMLINK_NOFOLLOW))
			c.handle(golden, name, 0)
		}
		c.must(0, unix.Close(fd))
		c.must(0, unix.Close(golden))
	})
	return us, c.err
}

// caller makes system calls and keeps the first error.
type caller struct {
	fd  map[string]int
	st  unix.Stat_t
	err error
}

func (c *caller) must(n int, err error) int {
	if err != nil && c.err == nil {
		c.err = err
	}
	return n
}

func (c *caller) fstat(fd int) { c.must(0, unix.Fstat(fd, &c.st)) }

func (c *caller) handle(dir int, name string, flags int) {
	_, _, err := unix.NameToHandleAt(dir, name, flags)
	c.must(0, err)
}

// time gives the microseconds that this thread takes for f, over n calls of it of so
// many units.
func (c *caller) time(n, units int, f func(i int)) float64 {
	begin := threadTime()
	for i := range n {
		f(i)
	}
	return float64((threadTime() - begin).Nanoseconds()) / 1e3 / float64(n*units)
}

func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

func (c *caller) close() {
	for _, fd := range c.fd {
		_ = unix.Close(fd)
	}
}

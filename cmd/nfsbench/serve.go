package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rubus/cmd/internal/threads"
	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsload"
	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/unfsd"
)

// roots answers MOUNT with the root of a path.
type roots map[string][]byte

// Mount implements mount3.Mounter.
func (r roots) Mount(_ context.Context, path string, _ netip.AddrPort) ([]byte, mount3.Status) {
	h, ok := r[path]
	if !ok {
		return nil, mount3.ErrNoEnt
	}
	return h, mount3.OK
}

// serve is our server over the overlays of newWorld at disk, as the daemon puts it together:
// calls are checked and counted the same. With a directory for profiles, each
// USR1 ends one and begins another.
func serve(disk, cache, profileDir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	unix.Umask(0)
	opts := handlefs.Options{Seed: uint64(time.Now().UnixNano()), Reserve: 64 << 20}
	_, _ = rand.Read(opts.Key[:])
	fs, err := handlefs.New(opts)
	if err != nil {
		return err
	}
	served := roots{}
	for i, name := range []string{"root", "next"} {
		x := nfsexport.Export{
			ID: nfsexport.ID(0x5b154510 + i), Name: name, Path: "/" + name, Dir: filepath.Join(disk, name), State: nfsexport.Ready,
			Index:  filepath.Join(disk, []string{"work", "work-next"}[i], "index"),
			Layers: []string{filepath.Join(disk, "lower")},
			Client: netip.MustParseAddr("127.0.0.1"), Async: os.Getenv("NFSBENCH_SYNC") == "", Activity: new(nfsexport.Activity),
		}
		if err := fs.Publish(x); err != nil {
			return err
		}
		if served[x.Dir], err = fs.RootHandle(x.ID); err != nil {
			return err
		}
	}
	b := unfsd.New(unfsd.Config{
		Threads: threads.New(), Store: fs, Mounter: served, NoPortmap: true, CachePath: cache,
		Observe: func(e sunrpc.Event) { // as the daemon's
			if x, ok := e.Subject.(*nfsexport.Export); ok && e.Program == nfs3.Number {
				x.Activity.Note(e.Procedure, e.Duration, e.Result != uint32(nfs3.OK))
			}
		},
	})
	if err := b.Listen(ctx); err != nil {
		return err
	}
	if profileDir != "" {
		end, err := profiles(profileDir)
		if err != nil {
			return err
		}
		defer end()
	}
	return b.Serve(ctx)
}

// profiles writes a profile for each operation into dir.
func profiles(dir string) (end func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	next := make(chan os.Signal, 1)
	signal.Notify(next, syscall.SIGUSR1)
	done := make(chan struct{})
	var file *os.File
	finish := func() {
		if file != nil {
			pprof.StopCPUProfile()
			_ = file.Close()
		}
	}
	go func() {
		for n := 0; ; n++ {
			select {
			case <-next:
			case <-done:
				return
			}
			finish()
			var err error
			if file, err = os.Create(filepath.Join(dir, fmt.Sprintf("%02d.pprof", n))); err == nil {
				err = pprof.StartCPUProfile(file)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "nfsbench: error:", err)
			}
		}
	}()
	return func() { close(done); finish() }, nil
}

// respond is the bare responder; it answers from the file at path.
func respond(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", rawAddr)
	if err != nil {
		return err
	}
	return nfsload.Respond(l, file)
}

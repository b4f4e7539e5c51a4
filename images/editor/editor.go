package editor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer"
)

// Options of an edit.
type Options struct {
	// Command is what is run; empty: a shell.
	Command []string
	// Self is the command line that calls Inside.
	Self []string
	// Stdin, Stdout and Stderr are the command's. Terminal says that Stdin is one.
	Stdin          *os.File
	Stdout, Stderr *os.File
	Terminal       bool
	// Again says that a build does all steps, also those that did not change.
	Again bool
	// Keep is asked whether what a shell wrote is kept when it ended with another code
	// than 0, which is that of the last command in it; nil: it is not.
	Keep func(code int) bool
	// Import says what becomes of the result: its message, tag and progress.
	Import importer.Options
}

// ErrUnchanged says that the command wrote nothing.
var ErrUnchanged = errors.New("nothing was changed")

// ExitError says that the command failed.
type ExitError struct{ Code int }

// Error implements error.
func (e *ExitError) Error() string {
	if e.Code == 128+int(unix.SIGKILL) {
		return fmt.Sprintf("the command was killed (exit code %d), as it is when memory is short", e.Code)
	}
	return fmt.Sprintf("the command ended with exit code %d", e.Code)
}

// Edit runs the command over the version base and makes the next version of the image
// name of what it wrote. It blocks as long as the command runs; a canceled ctx kills it.
func Edit(ctx context.Context, store *images.Store, base images.Version, name string, o Options) (images.Version, importer.Report, error) {
	v, rep, err := edit(ctx, store, base, name, o)
	if err != nil {
		if c := context.Cause(ctx); c != nil {
			err = c
		}
		err = fmt.Errorf("editing %s: %w", base.Ref, err)
	}
	return v, rep, err
}

func edit(ctx context.Context, store *images.Store, base images.Version, name string, o Options) (v images.Version, rep importer.Report, err error) {
	scratch, err := store.Begin(ctx)
	if err != nil {
		return v, rep, err
	}
	defer func() { err = errors.Join(err, scratch.Abort()) }()
	s, err := begin(scratch.Dir(), store.LayerDirs(base), base.Ref.Name)
	if err != nil {
		return v, rep, err
	}
	s.Command, s.Terminal = o.Command, o.Terminal
	if err := run(ctx, s, o); err != nil && !keeps(ctx, err, o) {
		return v, rep, fmt.Errorf("%w: nothing is kept", err)
	}
	if changed, err := importer.Changed(s.Upper, s.Lower); err != nil || !changed {
		return v, rep, errors.Join(err, ErrUnchanged)
	}
	in := o.Import
	in.Base = &base
	return importer.Seal(ctx, store, name, s.Upper, "edit of "+base.Ref.String(), in)
}

// keeps says whether what was written is kept although the command failed.
func keeps(ctx context.Context, err error, o Options) bool {
	exit := new(ExitError)
	return len(o.Command) == 0 && o.Keep != nil && errors.As(err, &exit) && ctx.Err() == nil && o.Keep(exit.Code)
}

// begin makes an empty upper and what belongs to it in dir.
func begin(dir string, lower []string, name string) (spec, error) {
	s := spec{Lower: lower, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Root: filepath.Join(dir, "root"), Name: name}
	for _, d := range []string{s.Upper, s.Work, s.Root} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return s, err
		}
	}
	var err error
	if s.Services, err = withoutServices(dir, s.Lower); err != nil {
		return s, err
	}
	return s, importer.LikeRoot(s.Upper, s.Lower)
}

// spec is what the process inside is told.
type spec struct {
	Lower             []string // the uppermost first
	Upper, Work, Root string
	Services          string // a layer above all of them; "" for none
	Command           []string
	// Extract is the directory that a tarball on standard input is unpacked to; "" runs Command.
	Extract  string
	Terminal bool
	Name     string
	Env      []string
}

// run starts the process inside, waits for it, and removes what no image is to have.
func run(ctx context.Context, s spec, o Options) error {
	return errors.Join(start(ctx, s, o), forget(s, o))
}

func start(ctx context.Context, s spec, o Options) error {
	term := os.Getenv("TERM")
	s.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=" + term, "RUBUS_IMAGE=" + s.Name}
	if !o.Terminal {
		s.Env = append(s.Env, "DEBIAN_FRONTEND=noninteractive")
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, _ = w.Write(b) // who doesn't read it says why
	}()
	cmd := exec.CommandContext(ctx, o.Self[0], o.Self[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stderr
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if o.Terminal {
		defer foreground()
	}
	ended := make(chan error, 1)
	go func() {
		// The death signal comes when the thread that started the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- cmd.Run()
	}()
	err = <-ended
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		switch code := exit.ExitCode(); code {
		case setupFailed:
			return errors.New("the command could not be started")
		case -1: // a signal ended it, and the kernel all that it started
			return &ExitError{128 + int(unix.SIGKILL)}
		default:
			return &ExitError{code}
		}
	}
	return err
}

// foreground takes the terminal back from the command's process group.
func foreground() {
	// Who is in the background and asks for it would be stopped.
	signal.Ignore(unix.SIGTTOU)
	defer signal.Reset(unix.SIGTTOU)
	_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp())
}

// setupFailed is the exit code for what went wrong before the command ran; it
// has been said then.
const setupFailed = 125

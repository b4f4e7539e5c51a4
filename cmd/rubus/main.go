package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
)

func main() { os.Exit(mainCode()) }

// mainCode is main with its exit code, so that deferred calls run.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks for a clean end; a second one ends at once.
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
}

// run is the whole command: it does what args say and returns the exit code.
// A canceled ctx asks for a clean end.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	g := cli.New(getenv, stdin, stdout, stderr)
	err := execute(ctx, g, args)
	ui.Report(stderr, err)
	return ui.Code(err)
}

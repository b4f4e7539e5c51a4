package simnet

import (
	"os"
	"os/signal"
	"syscall"

	"rubus/boot/fakepi/child"
)

// forward passes SIGTERM and SIGHUP on to a child until stop is called. SIGINT
// comes from the terminal, which sends it to the child as well.
func forward(p *child.Process) (stop func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGHUP, os.Interrupt)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-c:
				if s != os.Interrupt {
					_ = p.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(c)
		close(done)
	}
}

package unfsd

import (
	"os"
	"runtime"
)

// Spread lets twice as many threads run Go code at once as there would be (package
// runtime: GOMAXPROCS), unless GOMAXPROCS is set for the process. It is for main.
//
// Nearly all of a server's time goes into system calls of 5 to 500 us. With as many of
// Go's processors as of the machine's (or as the unit's CPUQuota leaves), each that is in a call longer than 20 us is
// taken away and given to another thread, and must be got back after it; with spare
// ones the kernel shares its processors among the threads, and calls wait less.
func Spread() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
}

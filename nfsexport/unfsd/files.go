package unfsd

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/sunrpc"
)

// Every process may have so many files open (RLIMIT_NOFILE; Go raises it to the
// hard limit by itself). The server never wants more: each of its parts has a
// share. Who comes when a share is used up is turned away or waits, others go on.
//
//	connections of the NFS program    1/2     20,000 at most
//	open files kept by handle         3/16    16,384 at most (handlefs.Options.MaxFDs)
//	calls that run, three files each  1/8     512 long and 1,024 short ones at most
//	connections of MOUNT and portmap  1/32    4,000 each at most
//	READs sent without a copy, a pipe
//	of two files each                 1/64    64 at most (16 for one address)
//	exports, two files each, sockets,
//	logs, transfers by TFTP           9/64    not enforced here: Publish fails
const (
	filesPerCall = 3
	leastConns   = 16
)

// fileShares are the limits that a number of open files allows.
type fileShares struct{ conns, small, long, short, pipes int }

// shares divides the number of files that this process may have open.
func shares(files uint64) fileShares {
	n := int(min(files, 1<<30))
	within := func(share, most int) int { return max(min(share, most), leastConns) }
	calls := n / 8 / filesPerCall / 2
	return fileShares{
		conns: within(n/2, 20000), small: within(n/64, 4000),
		long: within(calls, 512), short: within(calls, 1024),
		pipes: max(min(n/64/2, 64), 1),
	}
}

// openFiles is how many files this process may have open.
func openFiles() uint64 {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 1024 // what POSIX systems have always had
	}
	return lim.Cur
}

// bound fills in the limits that files set, where the caller sets none.
func (s fileShares) bound(l sunrpc.Limits) sunrpc.Limits {
	for _, x := range []struct {
		limit *int
		share int
	}{{&l.Conns, s.conns}, {&l.Calls, s.long}, {&l.Inline, s.short}, {&l.Pipes, s.pipes}} {
		if *x.limit == 0 {
			*x.limit = x.share
		}
	}
	// Nobody alone takes all of the calls that run.
	quarter := max(l.Calls/4, 1)
	l.CallsPerPeer, l.CallsPerConn = least(l.CallsPerPeer, 64, quarter), least(l.CallsPerConn, 64, quarter)
	return l
}

// least is v, or def when there is none, and most at most.
func least(v, def, most int) int {
	if v == 0 {
		v = def
	}
	return min(v, most)
}

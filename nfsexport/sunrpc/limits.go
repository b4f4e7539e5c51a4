package sunrpc

import "time"

// Limits bound what clients can make a Server hold and do. A zero field means
// the default named with it.
type Limits struct {
	// Conns and ConnsPerPeer are the most connections at once, in all (20,000)
	// and from one address (16).
	Conns, ConnsPerPeer int
	// Brief says that clients make their calls and are done with a connection: when there is
	// no place left, a new one gets that of the one that came first and has no call under way.
	Brief bool
	// Calls, CallsPerPeer and CallsPerConn are the most long calls that run at
	// once, in all (512; each may hold an OS thread), for one address (64, and no more than a
	// quarter of what is left for others then) and for one connection (64). Who has as many is
	// not read from.
	Calls, CallsPerPeer, CallsPerConn int
	// Inline is the most cheap calls that run at once before they count as long
	// ones (1,024; each may hold an OS thread).
	Inline int
	// Bytes and BytesPerPeer are the most bytes of large records and replies
	// held at once, in all (256 MiB) and for one address (32 MiB, and no more than a 32nd of
	// what is left for others then, but for one). Large is a record that exceeds 68 KiB, and a
	// reply that may exceed 4 KiB.
	Bytes, BytesPerPeer int64
	// Pipes is the most replies that end in pages of a file and records whose data
	// goes to one, at once (64; each takes two files), a quarter of them for one
	// address. Others are copied.
	Pipes int
	// Queue is how many bytes of memory may have replies that wait for one connection's client
	// to read them before no more of its calls are read (1 MiB, and 136 KiB for small ones).
	Queue int
	// Record is the longest record (1 MiB and 8 KiB).
	Record int
	// Idle is how long a connection may be silent (10 minutes), Receive how
	// long a record may take from its first byte to its last (1 minute), Write
	// how long a client may take to read a batch of replies (1 minute; a batch
	// is 2 MiB at most). They are kept to within a quarter or 5 s.
	Idle, Receive, Write time.Duration
}

// withDefaults fills the zero fields.
func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set64 := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Conns, 20000)
	set(&l.ConnsPerPeer, 16)
	set(&l.Calls, 512)
	set(&l.CallsPerPeer, 64)
	set(&l.CallsPerConn, 64)
	set(&l.Inline, 1024)
	set64(&l.Bytes, 256<<20)
	set64(&l.BytesPerPeer, 32<<20)
	set(&l.Pipes, 64)
	set(&l.Queue, 1<<20)
	set(&l.Record, 1<<20+8<<10)
	set64((*int64)(&l.Idle), int64(10*time.Minute))
	set64((*int64)(&l.Receive), int64(time.Minute))
	set64((*int64)(&l.Write), int64(time.Minute))
	// One large buffer must always be to be had, or its waiter waits for ever.
	l.BytesPerPeer = max(l.BytesPerPeer, int64(l.Record))
	l.Bytes = max(l.Bytes, int64(l.Record))
	return l
}

// tick is how often connections are looked over.
func (l Limits) tick() time.Duration {
	return max(time.Millisecond, min(5*time.Second, l.Idle/4, l.Receive/4, l.Write/4))
}

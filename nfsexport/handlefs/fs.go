package handlefs

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/golden"
	"rubus/nfsexport/handlefs/listing"
	"rubus/nfsexport/handlefs/names"
	"rubus/nfsexport/handlefs/rawfs"
	"rubus/nfsexport/handlefs/shown"
	"rubus/nfsexport/handlefs/stamp"
	"rubus/nfsexport/nfs3"
)

// Options are what an FS needs to know. Key and Seed must be set.
type Options struct {
	// Key authenticates file handles. It must stay the same for as long as
	// clients hold handles: keep it in the state directory, unreadable to others.
	Key [32]byte
	// Seed makes the write verifier (RFC 1813 section 3.3.7). It must differ at
	// every start of the process.
	Seed uint64
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// MaxFDs bounds the file descriptors kept open between calls; 0: 3/16 of
	// RLIMIT_NOFILE, 16,384 at most (for the other shares see package unfsd). Calls that run at the same time may hold
	// two or three more each, and every export holds two.
	MaxFDs int
	// AttrAge is for how long attributes are remembered beside changes that this FS
	// makes, of which it knows: so long after somebody else changed a mounted root,
	// clients may still be told what was. 0: 100 ms; negative: nothing is remembered.
	AttrAge time.Duration
	// Reserve is how many bytes of the file system below the overlays are kept
	// for the server's own state: a board's call that may need more space than there is
	// above it is answered NFS3ERR_NOSPC. 0: nothing is kept.
	Reserve uint64
	// Rebind is asked about a call with a good handle from a peer that may not
	// use the export: true when it is the export's board on another address, and
	// the call goes on. It runs on the goroutine of the call, may block, may
	// Publish, and is to answer a stranger's next calls quickly. nil: never.
	Rebind func(nfsexport.ID, netip.AddrPort) bool
	// Logger gets one line per event that an admin should know; nil: silent.
	Logger *slog.Logger
	// Observe is told the same events, on the goroutine of the call; nil: silent.
	Observe func(Event)
}

// EventKind says what happened.
type EventKind int

// What an FS can tell.
const (
	// BadHandle: a handle with a wrong form or a wrong MAC: forged or flipped.
	BadHandle EventKind = iota
	// Refused: a good handle from a peer that may not use the export.
	Refused
	// SyncFailed: data or names could not be brought to disk; the export's
	// write verifier has changed.
	SyncFailed
	// SpaceLow: a call was refused, as all space above Options.Reserve is used up. Of all
	// exports on a disk one is told it, and SpaceBack.
	SpaceLow
	// SpaceBack: there is free space above it again.
	SpaceBack
	// SpaceShort: a call was refused that needs more space than there is above it. It is
	// told once a minute for a disk at most.
	SpaceShort
	// QuotaFull: a call did not fit into the export's quota. It is told once a
	// minute at most.
	QuotaFull
	// Foreign: an object was not on the export's mount and was not served.
	Foreign
	// CredentialsStuck: a thread could not take back the server's credentials
	// and was discarded.
	CredentialsStuck
)

// Event is one fact about an export; Export is 0 when it is not known.
type Event struct {
	Kind   EventKind
	Export nfsexport.ID
	Err    error
}

// FS is an nfs3.FS over the exports published in it. Its methods may be called
// from many goroutines at once.
type FS struct {
	opts    Options
	sealer  *fhandle.Sealer
	proc    rawfs.Proc
	bufs    rawfs.DirBufs
	cache   cache
	names   *names.Table
	shown   *shown.Table
	kept    listing.Kept
	goldens *golden.Table
	layers  layerTable
	disks   disks
	ops     sync.Pool
	seed    maphash.Seed // of the sums in indexed

	large   chan struct{} // held by calls that hold a large listing
	listing int           // the size of one that is not held whole: listing.Large, but in tests

	stampTime func() time.Time // stamp.Now, but in tests
	began     time.Time        // what attributes' ages are counted from

	mu    sync.Mutex // held by those who change the table
	table atomic.Pointer[map[nfsexport.ID]*export]
	doubt atomic.Bool // see Doubt

	closed atomic.Bool
}

var _ nfs3.FS = (*FS)(nil)

// New makes an FS without exports. It needs a mounted /proc and the privileges
// of root (CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SETGID and those of a file
// system's owner).
func New(opts Options) (*FS, error) {
	if opts.Key == ([32]byte{}) {
		return nil, errors.New("a file handle key of 32 random bytes is needed")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.AttrAge == 0 {
		opts.AttrAge = attrAge
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.MaxFDs <= 0 {
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return nil, fmt.Errorf("reading the limit of open files: %w", err)
		}
		opts.MaxFDs = int(min(lim.Cur/16*3, 16384))
	}
	proc, err := rawfs.OpenProc()
	if err != nil {
		return nil, err
	}
	fs := &FS{
		opts: opts, sealer: fhandle.NewSealer(opts.Key), proc: proc, seed: maphash.MakeSeed(),
		names: names.New(), shown: shown.New(), goldens: golden.New(golden.Most),
		large: make(chan struct{}, largeListings), listing: listing.Large,
		stampTime: stamp.Now, began: opts.Now(),
	}
	fs.cache.init(opts.MaxFDs)
	fs.table.Store(&map[nfsexport.ID]*export{})
	fs.ops.New = func() any { return &op{fs: fs} }
	return fs, nil
}

// Close withdraws all exports. The FS must not be used after it, but for Close.
func (fs *FS) Close() error {
	if fs.closed.Swap(true) {
		return nil
	}
	var errs []error
	for id := range *fs.table.Load() {
		errs = append(errs, fs.Withdraw(id))
	}
	fs.disks.close()
	return errors.Join(append(errs, fs.proc.Close())...)
}

// OpenFiles is the number of file descriptors kept open for objects now.
func (fs *FS) OpenFiles() int { return int(fs.cache.fds.Load()) }

// event tells the log and the observer what happened.
func (fs *FS) event(kind EventKind, level slog.Level, msg string, id nfsexport.ID, err error) {
	args := []any{"export", id}
	if e := (*fs.table.Load())[id]; e != nil {
		args = append(args, "name", e.Name)
	}
	if err != nil {
		args = append(args, "err", err)
	}
	fs.opts.Logger.Log(context.Background(), level, msg, args...)
	if fs.opts.Observe != nil {
		fs.opts.Observe(Event{Kind: kind, Export: id, Err: err})
	}
}

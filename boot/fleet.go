package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rubus/boot/attempt"
	"rubus/boot/ballast"
	"rubus/boot/bootset"
	"rubus/boot/phase"
	"rubus/boot/quota"
	"rubus/boot/record"
	"rubus/boot/rollout"
	"rubus/boot/sighting"
	"rubus/boot/writes"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/nfsexport"
	"rubus/overlay"
)

// Store is what the Fleet needs of the image store.
type Store interface {
	// Hold keeps versions from being removed until release is called.
	Hold(ctx context.Context) (release func(), err error)
	Resolve(ref imageref.Ref) (images.Version, error)
	LayerDir(digest string) string
}

// Exporter offers roots over NFS.
type Exporter interface {
	// Publish makes e known, or replaces the export with the same ID.
	Publish(e nfsexport.Export) error
	// Withdraw ends an export; when it returns, nothing of it is open.
	Withdraw(id nfsexport.ID) error
	// Hold makes the calls that change an export's files wait, without an error
	// for the board's programs, until release is called. When it returns none is running.
	Hold(ctx context.Context, id nfsexport.ID) (release func(), err error)
	// Traits say what is different about it; they do not change.
	Traits() nfsexport.Traits
	// Doubt says whether exports may be missing that boards have handles of.
	Doubt(on bool)
}

// Neighbours knows who has an address on the link.
type Neighbours interface {
	// OnLink says whether the address is reached without a router.
	OnLink(addr netip.Addr) bool
	// Owner is the MAC that the neighbour table gives for an address; it may
	// ask on the link and wait for a second at most.
	Owner(ctx context.Context, addr netip.Addr) (device.MAC, bool)
	// Silent asks the board for a sign of life (ARP on the link, ping off it)
	// and says whether it gave none. An error means that nobody can tell.
	Silent(ctx context.Context, addr netip.Addr, mac device.MAC) (bool, error)
	// Addresses are those that the neighbour table gives to a MAC.
	Addresses(mac device.MAC) ([]netip.Addr, error)
}

// Options are what a Fleet is made of.
type Options struct {
	// State is the state directory; devices/ and roots/ below it are the Fleet's.
	State      string
	Store      Store
	Exporter   Exporter
	Neighbours Neighbours
	Logger     *slog.Logger
	// NFSPort goes into the generated cmdline when it is not the standard one;
	// 0 is 2049.
	NFSPort uint16
	// InsecurePorts lets NFS calls come from ports of 1024 and above.
	InsecurePorts bool
	// TrustFirst binds a board to the first MAC that asks for its files, when
	// none was heard in DHCP: needed where rubus hears no DHCP (mode off).
	TrustFirst bool
	// Prefixes are strings that EEPROMs put before the names of files beside
	// serials and MACs, and Pi5Start is what a Pi 5 gets for older firmware.
	Prefixes []string
	Pi5Start Pi5Start
	Limits   phase.Limits
	// WarnOnly gives out boot files that cannot work together, too.
	WarnOnly bool
	// FallbackAfter is how many boots in a row must fail with changed boot files
	// until a board gets those of its last good boot; 0: never.
	FallbackAfter int
	// GoodWithin is after how long a boot on trial that was not reported as good is told of, and
	// stops the batch of its board; 0: never.
	GoodWithin time.Duration
	// MaxUnknown bounds the unknown boards that are remembered.
	MaxUnknown int
	// KeepAside is how long writes that were set aside, by a reset for one, are
	// kept; 0: 30 days.
	KeepAside time.Duration
	// Reserve is the space in bytes that snapshots and what is restored of them leave
	// free of the state directory's file system; 0: none.
	Reserve int64
	// Step, when not nil, is called within changes of a board's state, where a crash
	// must do no harm.
	Step func(string)
	// Now is the clock; nil: time.Now.
	Now   func() time.Time
	Waits func(n int) // is told 1 when a board is prepared, which waits for disks, -1 when none is; or nil
	// Observe, when not nil, is told what happens to boards. It must not block.
	Observe func(Event)
}

// Event is one fact about a board.
type Event struct {
	Time   time.Time
	Serial device.Serial
	MAC    device.MAC
	// Kind is a short constant: "dhcp", "tftp", "prepared", "blocked", "warned",
	// "mount", "running", "good", "failed", "refused", "rebased", "stopped", "unknown".
	Kind string
	// Text says what happened.
	Text string
	// Boot is the id of the boot ("prepared", "good", "failed"). Kernel names
	// what may be its kernel, Reports says that the image has the unit which
	// reports the boot, LastGood that the boot files are those of the last good
	// boot, and Problem why ("prepared").
	Boot, Kernel, Problem string
	Reports, LastGood     bool
}

// Fleet is all boards. Make one with New, then call Start, then Run.
type Fleet struct {
	opt      Options
	log      *slog.Logger
	traits   nfsexport.Traits // of the exporter
	started  time.Time
	attempts *attempt.Options
	quotas   *quota.Keeper
	ballast  *ballast.Ballast
	rollouts *rollout.Keeper

	mu      sync.Mutex
	desired *Desired
	boards  map[device.Serial]*board
	byPath  map[string]slotKey       // export path -> slot
	byID    map[nfsexport.ID]slotKey // export id -> slot
	// replaced has for a board that was replaced the one that has its place.
	replaced  map[device.Serial]device.Serial
	unknown   *sighting.List
	naming    naming
	preparing atomic.Int64 // boards that are prepared now

	// stopped is closed when Run ends; carrying has a token for each upper made for a boot.
	stopped  chan struct{}
	stopOnce sync.Once
	carrying chan struct{}
}

type slotKey struct {
	serial device.Serial
	n      int
}

// New makes a Fleet over a state directory. It reads nothing yet.
func New(opt Options) *Fleet {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Limits == (phase.Limits{}) {
		opt.Limits = phase.DefaultLimits()
	}
	if opt.MaxUnknown == 0 {
		opt.MaxUnknown = 2048
	}
	if opt.KeepAside == 0 {
		opt.KeepAside = 30 * 24 * time.Hour
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	now := opt.Now()
	f := &Fleet{
		opt: opt, log: opt.Logger, traits: opt.Exporter.Traits(), started: now,
		attempts: &attempt.Options{
			LayerDir: opt.Store.LayerDir, Insides: &bootset.Cache{}, WarnOnly: opt.WarnOnly, FallbackAfter: opt.FallbackAfter,
			Started: now, Within: opt.Limits.Boot, Now: opt.Now,
		},
		quotas: quota.New(quota.Options{Logger: opt.Logger, Now: opt.Now, Hold: opt.Exporter.Hold}), ballast: ballast.New(filepath.Join(opt.State, "ballast")),
		boards: map[device.Serial]*board{}, byPath: map[string]slotKey{}, byID: map[nfsexport.ID]slotKey{},
		replaced: map[device.Serial]device.Serial{}, naming: naming{claims: map[string]device.Serial{}},
		unknown: sighting.New(opt.MaxUnknown), stopped: make(chan struct{}), carrying: make(chan struct{}, atOnce),
	}
	f.rollouts = rollout.New(opt.State, members{f}, f.log, opt.Now)
	return f
}

// Start takes up every board that has a record: the boards that were up are
// published as Preparing first, so that their calls wait instead of failing,
// then mounted (or their mounts adopted) and published as Ready. It returns
// when all have been tried; a board that fails stays Preparing, says why in its
// status, and is tried again by Run. Call it before the NFS port opens.
func (f *Fleet) Start(ctx context.Context) error {
	if err := f.rollouts.Load(); err != nil {
		f.log.Error("batches of boards that move cannot be read; their boards are left as they are", "err", err)
	}
	up, err := f.load()
	if err != nil {
		return err
	}
	if err := f.ballast.Fill(); err != nil {
		f.log.Warn("boards may not boot when the disk has not a block left", "err", err)
	}
	defer f.doubt()
	for _, b := range up {
		for _, slot := range b.offered() {
			if err := f.publish(b, slot, nfsexport.Preparing); err != nil {
				return fmt.Errorf("publishing the root of board %s: %w", b.serial, err)
			}
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, b := range up {
		g.Go(func() error {
			if err := f.restore(gctx, b); err != nil {
				b.setProblem(err.Error())
				f.log.Error("a board's root is not ready; its calls wait and it is tried again", "serial", b.serial, "err", err)
			}
			return gctx.Err()
		})
	}
	return g.Wait()
}

// Load is Start without any root: for a process that changes what boards have while
// there is no daemon. A board that was up then is up, as far as anybody knows.
func (f *Fleet) Load() error {
	_, err := f.load()
	return err
}

// load reads the records of all boards, and gives those that were up.
func (f *Fleet) load() (up []*board, err error) {
	if err := writes.FinishReplaces(f.opt.State); err != nil {
		return nil, err
	}
	serials, err := record.Serials(f.opt.State)
	if err != nil {
		return nil, err
	}
	for _, s := range serials {
		rec, err := record.Load(f.opt.State, s)
		b := f.board(s)
		b.mu.Lock()
		b.rec = rec
		if cur := rec.InState(record.SlotCurrent); rec.Up && cur != nil {
			b.ev.Mounted, b.ev.Adopted = cur.Mounted, true
		}
		if b.broken = err; err != nil {
			b.problem = err.Error()
		}
		b.mu.Unlock()
		if err != nil {
			f.log.Error("a board's record cannot be read; nothing is done to the board until it can", "serial", s, "err", err)
			continue
		}
		f.noteReplaced(&rec)
		b.boots()
		if rec.MayBeUp() {
			up = append(up, b)
		}
	}
	return up, nil
}

// doubt tells the exporter whether a record cannot be read: which exports that
// board has handles of, nobody knows.
func (f *Fleet) doubt() {
	f.opt.Exporter.Doubt(slices.ContainsFunc(f.all(), func(b *board) bool { return b.usable() != nil }))
}

// restore mounts and publishes what a board that was up stood on.
func (f *Fleet) restore(ctx context.Context, b *board) error {
	if err := b.work.Lock(ctx); err != nil {
		return err
	}
	defer b.work.Unlock()
	return f.restoreLocked(ctx, b)
}

// restoreLocked is restore for those who hold work.
func (f *Fleet) restoreLocked(ctx context.Context, b *board) error {
	var errs []error
	for _, slot := range b.offered() {
		if !b.isMissing(slot) {
			continue
		}
		errs = append(errs, f.offer(ctx, b, slot))
	}
	return errors.Join(errs...)
}

// Apply makes d the desired state: boards that are new are served from now,
// what changed holds from a board's next boot, but for quotas, which hold at once, and a board whose entry is gone
// or disabled gets no new boot but keeps its root until it is down.
func (f *Fleet) Apply(d *Desired) {
	f.mu.Lock()
	f.desired = d
	f.mu.Unlock()
	f.limitAll()
}

// wanted is the device of a serial as desired now; nil when there is none, and
// for an unknown board the template when the policy is to boot it; one that was replaced
// is no stranger, and boots when an entry names it again.
func (f *Fleet) wanted(s device.Serial) *Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.desired.device(s); d != nil {
		return d
	}
	if f.desired != nil && f.desired.Unknown == UnknownBoot && !s.IsZero() && f.replaced[s].IsZero() {
		d := f.desired.UnknownDevice
		d.Serial, d.Enabled = s, true
		return &d
	}
	return nil
}

// board is the board of a serial; it is made when first asked for.
func (f *Fleet) board(s device.Serial) *board {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.boards[s]
	if b == nil {
		b = f.newBoard(s)
		f.boards[s] = b
	}
	return b
}

// known is the board of a serial if there is one.
func (f *Fleet) known(s device.Serial) *board {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boards[s]
}

func (f *Fleet) all() []*board {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*board, 0, len(f.boards))
	for _, b := range f.boards {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *board) int { return a.serial.Compare(b.serial) })
	return out
}

// store writes a changed record to disk and, when it is there, makes it the
// board's. The caller holds work.
func (f *Fleet) store(b *board, r record.Record) error {
	if err := b.usable(); err != nil {
		return err
	}
	if err := f.ballast.Do(func() error { return record.Save(f.opt.State, &r) }); err != nil {
		return err
	}
	b.mu.Lock()
	b.rec = r
	b.mu.Unlock()
	return nil
}

func (f *Fleet) observe(serial device.Serial, mac device.MAC, kind, text string) {
	if f.opt.Observe != nil {
		f.opt.Observe(Event{Time: f.opt.Now(), Serial: serial, MAC: mac, Kind: kind, Text: text})
	}
}

// disk is what a board has on the disk.
func (f *Fleet) disk(serial device.Serial) writes.Board {
	return writes.Board{State: f.opt.State, Serial: serial, Layers: f.opt.Store, Fresh: f.quotas.Fresh}
}

func (f *Fleet) spec(serial device.Serial, s record.Slot) overlay.Spec { return f.disk(serial).Spec(s) }

func (f *Fleet) uppers(serial device.Serial) overlay.Uppers { return f.disk(serial).Uppers() }

// fits says whether a copy of so many bytes leaves Options.Reserve free.
func (f *Fleet) fits(bytes int64) error { return writes.Fits(f.opt.State, f.opt.Reserve, bytes, true) }

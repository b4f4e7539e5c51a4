package boot

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rubus/boot/attempt"
	"rubus/boot/phase"
	"rubus/boot/record"
	"rubus/boot/sighting"
	"rubus/boot/turn"
	"rubus/config/device"
	"rubus/nfsexport"
	"rubus/overlay"
)

// board is one board. The zero value is not usable; see Fleet.newBoard.
type board struct {
	serial device.Serial
	// boots are read when they are first asked for: see Fleet.recall.
	boots func() *attempt.Boots
	// work is held by whoever changes the board's slots.
	work *turn.Turn

	mu       sync.Mutex
	rec      record.Record
	ev       phase.Evidence
	activity map[int]*nfsexport.Activity // by slot
	mounted  map[int]overlay.Root        // by slot
	// atRest are slots that were given up: neither mounted nor offered.
	atRest map[int]bool
	// pinned is the slot that answers the present boot attempt; 0: none yet.
	pinned int
	// claim is the MAC heard in DHCP with this board's identity.
	claim device.MAC
	// said is what the board's firmware said of it.
	said    sighting.Sighting
	problem string
	// identity is what the board lacks of its identity; "": nothing.
	identity string
	// refusal is the last reason for which somebody was refused as this board,
	// told is when each kind of reason was last in the log.
	refusal string
	told    map[string]time.Time
	// strangers were refused an NFS call at a time; they are not looked up
	// again for a second.
	strangers map[netip.Addr]time.Time
	// broken is why the record cannot be read; then nothing is done to the board.
	broken error
	// made is when this board was first heard of.
	made time.Time
	// boot is the one that got the pinned slot, with its boot files; nil: none yet.
	boot *attempt.Boot
	// revision is what the board said in DHCP; 0: nothing.
	revision device.Revision
	// looked counts the calls on what the board had, at the last look whether it wrote
	// to it since its slot on trial was made.
	looked uint64
	// toldRunning is the MOUNT whose init was told of.
	toldRunning time.Time
	// probing says that a probe for life is under way.
	probing bool
	// awaiting is when the board was last let in unasked.
	awaiting time.Time
}

func (f *Fleet) newBoard(s device.Serial) *board {
	b := &board{
		serial: s, work: turn.New(ErrBoots), made: f.opt.Now(),
		rec:      record.Record{Version: record.Version, Serial: s},
		activity: map[int]*nfsexport.Activity{}, mounted: map[int]overlay.Root{}, atRest: map[int]bool{},
	}
	b.boots = sync.OnceValue(func() *attempt.Boots { return f.recall(b) })
	return b
}

// What a board can provoke is in the log once in tellAgain for each kind, and for
// tellKinds kinds at most.
const (
	tellAgain = time.Hour
	tellKinds = 32
)

// refuse notes why somebody was refused as this board; again says that this kind
// of reason is in the log already.
func (b *board) refuse(now time.Time, kind, why string) (again bool) {
	again = b.hasTold(now, kind)
	b.mu.Lock()
	b.refusal = why
	b.mu.Unlock()
	return again
}

// hasTold says whether a kind of event is in the log already. If not, the caller
// logs it.
func (b *board) hasTold(now time.Time, kind string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.told[kind]
	if ok && now.Sub(at) < tellAgain {
		return true
	}
	maps.DeleteFunc(b.told, func(_ string, at time.Time) bool { return now.Sub(at) >= tellAgain })
	if len(b.told) >= tellKinds {
		return true
	}
	if b.told == nil {
		b.told = map[string]time.Time{}
	}
	b.told[kind] = now
	return false
}

// usable is an error while the board's record cannot be read: to write another
// would forget its uppers.
func (b *board) usable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken
}

// learn keeps what the board's firmware says of it. b.mu is held.
func (b *board) learn(s sighting.Sighting) { b.said.Learn(s) }

// isPi5 says that the board's firmware told of a Pi 5 or its kin.
func (b *board) isPi5() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.Revision.IsNewStyle() && b.said.Revision.Processor() == 4
}

func (b *board) setProblem(s string) {
	b.mu.Lock()
	b.problem = s
	b.mu.Unlock()
}

func (b *board) slots() []record.Slot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.rec.Slots)
}

// offered lists the slots that the board may call on.
func (b *board) offered() []record.Slot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rec.Offered()
}

func (b *board) record() record.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rec.Clone()
}

func (b *board) isMounted(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.mounted[n]
	return ok
}

// isMissing says that a root which its board may call on is not mounted.
func (b *board) isMissing(s record.Slot) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.mounted[s.N]
	return !ok && !(s.State == record.SlotParked && b.atRest[s.N])
}

// evidence is the board's evidence with what the NFS server saw folded in.
func (b *board) evidence() phase.Evidence {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.ev
	e.HasRoot = b.rec.Up || b.isCalledUnasked()
	e.Other = b.rec.Up && !b.rec.MAC.IsZero() && !b.claim.IsZero() && b.claim != b.rec.MAC
	for n, a := range b.activity {
		e.LastCall = phase.Later(e.LastCall, unixNano(a.LastCall.Load()))
		if s := b.rec.Slot(n); s != nil && s.State == record.SlotCurrent {
			e.InitRead = phase.Later(e.InitRead, unixNano(a.InitRead.Load()))
		}
	}
	return e
}

func unixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

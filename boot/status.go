package boot

import (
	"net/netip"
	"slices"
	"time"

	"rubus/boot/attempt"
	"rubus/boot/phase"
	"rubus/boot/quota"
	"rubus/boot/record"
	"rubus/config/device"
	"rubus/images/imageref"
	"rubus/nfsexport"
)

// Status is what is known of a board now. It is a copy.
type Status struct {
	Serial device.Serial
	Name   string
	// Wanted is the image that devices.yaml names; zero when it has no entry.
	Wanted imageref.Ref
	// Running is the version under the board's present root; zero: none.
	Running imageref.Ref
	// Available is the version that a reset would move the board to, when that
	// is another than Running; zero otherwise.
	Available imageref.Ref
	Phase     phase.Phase
	Since     time.Time
	Up        phase.Up
	MAC       device.MAC
	Address   netip.Addr
	Ephemeral bool
	Enabled   bool
	// Listed says that devices.yaml has an entry for the board.
	Listed bool
	// Path and Export are those of the present root.
	Path   string
	Export nfsexport.ID
	// Problem is why the board is not served, Refusal the last time somebody
	// was refused in its name; "" when there is none.
	Problem, Refusal string
	Evidence         phase.Evidence
	// Calls, BytesRead and BytesWritten count NFS on the present root.
	Calls, BytesRead, BytesWritten uint64
	// Quota is what the present root has and may have; nil: it has no limit, or
	// is not offered.
	Quota *quota.Use
	// Activity is what NFS sees of the present root, live; nil: no root.
	Activity *nfsexport.Activity
	Slots    []record.Slot
	// Move is the board's last rebase; nil: none.
	Move *record.Move
	// Boot is the last boot and its files.
	Boot attempt.Status
}

// Boards lists all boards that have an entry or a record, by serial.
func (f *Fleet) Boards() []Status {
	f.mu.Lock()
	var serials []device.Serial
	for s := range f.boards {
		serials = append(serials, s)
	}
	if f.desired != nil {
		for s := range f.desired.Devices {
			if f.boards[s] == nil {
				serials = append(serials, s)
			}
		}
	}
	f.mu.Unlock()
	slices.SortFunc(serials, device.Serial.Compare)
	out := make([]Status, 0, len(serials))
	for _, s := range serials {
		if st, ok := f.Board(s); ok {
			out = append(out, st)
		}
	}
	return out
}

// Board is the status of one board; false when nothing is known of it.
func (f *Fleet) Board(s device.Serial) (Status, bool) {
	f.mu.Lock()
	listed := f.desired.device(s)
	b := f.boards[s]
	f.mu.Unlock()
	if listed == nil && b == nil {
		return Status{}, false
	}
	st := Status{Serial: s, Phase: phase.Unseen, Up: phase.UpNo}
	dev := f.wanted(s)
	if dev != nil {
		st.Name, st.Wanted, st.Ephemeral, st.Enabled = dev.Name, dev.Image, dev.Ephemeral, dev.Enabled
		st.MAC, st.Address = dev.MAC, dev.Address
	}
	st.Listed = listed != nil
	if b != nil {
		f.fill(&st, b)
	}
	f.available(&st)
	return st, true
}

func (f *Fleet) fill(st *Status, b *board) {
	st.Boot = b.boots().Status()
	now := f.opt.Now()
	e := b.evidence()
	b.mu.Lock()
	rec := b.rec.Clone()
	st.Problem, st.Refusal = b.problem, b.refusal
	if st.Problem == "" && b.identity != "" {
		st.Problem = "identity: " + b.identity
	}
	claim, pinned := b.claim, b.pinned
	cur := rec.InState(record.SlotCurrent)
	if cur != nil {
		if a := b.activity[cur.N]; a != nil {
			st.Activity = a
			st.Calls, st.BytesRead, st.BytesWritten = a.Calls.Load(), a.BytesRead.Load(), a.BytesWritten.Load()
		}
	}
	b.mu.Unlock()
	st.Evidence, st.Slots, st.Move = e, rec.Slots, rec.Move
	st.Phase = e.Phase(now, f.opt.Limits)
	st.Since, st.Up = e.Since(st.Phase), e.Up(now, f.opt.Limits)
	if !rec.MAC.IsZero() {
		st.MAC = rec.MAC
	} else if st.MAC.IsZero() {
		st.MAC = claim
	}
	if rec.Address.IsValid() {
		st.Address = rec.Address
	}
	st.Quota = f.quotaUse(cur)
	shown := cur
	if s := rec.Slot(pinned); s != nil && (st.Phase == phase.TFTP || cur == nil) {
		shown = s
	}
	if shown == nil {
		if kept := rec.Persistent(); len(kept) > 0 {
			shown = &kept[0]
		}
	}
	if shown != nil {
		st.Running, st.Export, st.Path = shown.Image, shown.Export, f.path(b.serial, shown.N)
	}
}

// available says what a board that stays behind could have.
func (f *Fleet) available(st *Status) {
	if st.Wanted.IsZero() {
		return
	}
	v, err := f.opt.Store.Resolve(st.Wanted)
	if err != nil {
		if st.Problem == "" {
			st.Problem = err.Error()
		}
		return
	}
	if !st.Running.IsZero() && v.Ref != st.Running {
		st.Available = v.Ref
	}
}

package batch

import (
	"fmt"
	"slices"
	"time"

	"rubus/config/device"
	"rubus/images/imageref"
)

// State is how far a batch is.
type State string

// The states of a batch.
const (
	// Canaries: only its first members move.
	Canaries State = "canaries"
	// Released: all its members move.
	Released State = "released"
	// Stopped: a member went back or hangs, or a canary did not move; no more of them move.
	Stopped State = "stopped"
	// Done: every member came to an end.
	Done State = "done"
	// Undone: it was taken back.
	Undone State = "undone"
)

// The states of a member beside those of its board's move.
const (
	// Waiting: for the canaries.
	Waiting = "waiting"
	// Dropped: it does not move any more; Why says the reason.
	Dropped = "dropped"
	// Skipped: the board stands on the version, or wrote nothing, or had been up to
	// something else when its turn came.
	Skipped = "skipped"
)

// WhyStopped is why a board does not move, or not any more, when its batch stopped.
const WhyStopped = "the batch stopped"

// The states of a board's move that a batch knows by name.
const (
	pending = "pending"
	trial   = "trial"
	good    = "good"
	moved   = "moved"
	back    = "back"
	failed  = "failed"
	undoing = "undoing"
	undone  = "undone"
)

// Batch is one order to move boards.
type Batch struct {
	// N counts batches from 1.
	N    int       `json:"n"`
	Made time.Time `json:"made"`
	// To is the version, Conflicts whose holds where both changed a file.
	To        imageref.Ref `json:"to"`
	Conflicts string       `json:"conflicts,omitempty"`
	// First is how many members are canaries; 0: there are none.
	First int   `json:"first,omitempty"`
	State State `json:"state"`
	// Why says what stopped it.
	Why     string   `json:"why,omitempty"`
	Members []Member `json:"members"`
}

// Member is one board of a batch.
type Member struct {
	Serial device.Serial `json:"serial"`
	// State is one of the above, or the state of the board's move.
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
	// Overdue says that its boot on trial is under way for longer than one may be.
	Overdue bool `json:"overdue,omitempty"`
	// Snapshot is what was set aside of the board; 0: nothing yet.
	Snapshot int `json:"snapshot,omitempty"`
	// Reports says, of a board that moves, whether the new version reports its boots.
	Reports bool `json:"reports"`
}

// Move is how far the move of a member's board is, as far as it is of the batch.
type Move struct {
	State    string
	Why      string
	Overdue  bool
	Snapshot int
	Reports  bool
}

// GoesOn says that the board is yet to boot the version, or is on trial of it.
func (m Move) GoesOn() bool { return m.State == pending || m.State == trial }

// New is a batch of boards whose first are canaries; 0: all move at once.
func New(n int, to imageref.Ref, conflicts string, first int, boards []device.Serial, now time.Time) Batch {
	b := Batch{N: n, Made: now.UTC(), To: to, Conflicts: conflicts, First: first, State: Released}
	if first > 0 {
		b.State = Canaries
	}
	for _, s := range boards {
		if b.Member(s) == nil { // named twice is named once
			b.Members = append(b.Members, Member{Serial: s, State: Waiting})
		}
	}
	if b.First >= len(b.Members) {
		b.State, b.First = Released, 0
	}
	return b
}

// Pass adds a board that the order names and that is passed over, if it is none of its members.
func (b *Batch) Pass(s device.Serial, why string) {
	if b.Member(s) == nil {
		b.Members = append(b.Members, Member{Serial: s, State: Skipped, Why: why})
	}
}

// Clone is a copy that shares nothing.
func (b Batch) Clone() Batch {
	b.Members = slices.Clone(b.Members)
	return b
}

// Member is that of a board; nil: it has none.
func (b *Batch) Member(s device.Serial) *Member {
	for i := range b.Members {
		if b.Members[i].Serial == s {
			return &b.Members[i]
		}
	}
	return nil
}

// Turn lists the boards that wait and whose turn it is to move.
func (b *Batch) Turn() (out []device.Serial) {
	for i, m := range b.Members {
		if m.State == Waiting && (b.State == Released || b.State == Canaries && i < b.First) {
			out = append(out, m.Serial)
		}
	}
	return out
}

// Recall lists the boards whose move is still to come and that are not to move any more.
func (b *Batch) Recall() (out []device.Serial) {
	for _, m := range b.Members {
		if m.State == pending && (b.State == Stopped || b.State == Undone) {
			out = append(out, m.Serial)
		}
	}
	return out
}

// isOpen says that something will become of a member by itself.
func (m *Member) isOpen() bool {
	return slices.Contains([]string{Waiting, pending, trial, undoing}, m.State)
}

// Advance takes what became of the boards' moves into account: move gives that of a board,
// false when it has none of this batch. It says whether anything changed. It is to be
// called again and again; what follows from the result are Turn and Recall.
func (b *Batch) Advance(move func(device.Serial) (Move, bool)) bool {
	before := b.Clone()
	for i := range b.Members {
		b.Members[i].follow(move)
	}
	b.judge()
	return b.State != before.State || b.Why != before.Why || !slices.Equal(b.Members, before.Members)
}

func (m *Member) follow(move func(device.Serial) (Move, bool)) {
	now, ok := move(m.Serial)
	switch {
	case ok && m.State != Dropped:
		m.State, m.Why, m.Overdue, m.Snapshot, m.Reports = now.State, now.Why, now.Overdue, now.Snapshot, now.Reports
	case !ok && m.isOpen() && m.State != Waiting:
		m.State, m.Why = Dropped, "it was reset, restored or moved otherwise"
	}
}

// judge says what follows for the batch from the states of its members.
func (b *Batch) judge() {
	if b.State == Canaries || b.State == Released {
		for _, m := range b.Members {
			if m.State == back {
				b.stop(fmt.Sprintf("board %s went back: %s", m.Serial, m.Why))
				break
			}
			if m.State == trial && m.Overdue {
				b.stop(fmt.Sprintf("board %s is on trial: %s", m.Serial, m.Why))
				break
			}
		}
	}
	if b.State == Canaries {
		left, proved := 0, false
		for _, m := range b.Members[:b.First] {
			switch m.State {
			case good:
				proved = true
			case Skipped:
			case failed, undone, Dropped:
				b.stop(fmt.Sprintf("board %s, a canary, did not move: %s", m.Serial, m.Why))
			default:
				left++
			}
		}
		switch {
		case left > 0 || b.State != Canaries:
		case proved:
			b.State = Released
		default:
			b.stop("no canary had anything to move")
		}
	}
	if b.State == Released && !slices.ContainsFunc(b.Members, func(m Member) bool { return m.isOpen() }) {
		b.State = Done
	}
}

// stop lets no more members move.
func (b *Batch) stop(why string) {
	b.State, b.Why = Stopped, why
	b.dropWaiting(WhyStopped)
}

func (b *Batch) dropWaiting(why string) {
	for i := range b.Members {
		if b.Members[i].State == Waiting {
			b.Members[i].State, b.Members[i].Why = Dropped, why
		}
	}
}

// Release has the rest move without waiting for the canaries. It says whether there was
// a rest.
func (b *Batch) Release() bool {
	if b.State != Canaries {
		return false
	}
	b.State = Released
	return true
}

// Undo takes a batch back: those that wait are dropped. The boards of the others are to be
// taken back by whoever calls: Moved lists them.
func (b *Batch) Undo() {
	b.State, b.Why = Undone, ""
	b.dropWaiting("the batch was undone")
}

// Moved lists the boards that moved, or are about to.
func (b *Batch) Moved() (out []device.Serial) {
	for _, m := range b.Members {
		if slices.Contains([]string{pending, trial, good, moved, undoing}, m.State) {
			out = append(out, m.Serial)
		}
	}
	return out
}

// IsOver says that nothing more comes of the batch by itself.
func (b *Batch) IsOver() bool {
	return b.State != Canaries && !slices.ContainsFunc(b.Members, func(m Member) bool { return m.isOpen() })
}

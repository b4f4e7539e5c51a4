package record

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rubus/images/imageref"
)

// MoveState is how far a board's move to another version is.
type MoveState string

// The states of a move. Pending, Trial and Undoing go on by themselves; the others are
// what came of it.
const (
	// MovePending: it is worked out when the board's next boot begins.
	MovePending MoveState = "pending"
	// MoveTrial: the board boots the new version, and was not good there yet.
	MoveTrial MoveState = "trial"
	// MoveGood: a boot on the new version was reported as good.
	MoveGood MoveState = "good"
	// MoveMade: the board mounted the new version, which has no unit to report a boot.
	MoveMade MoveState = "moved"
	// MoveBack: the trial's boots failed, and the board boots what it had.
	MoveBack MoveState = "back"
	// MoveFailed: it could not be worked out; the board has what it had.
	MoveFailed MoveState = "failed"
	// MoveUndoing: what the board had is brought back when its next boot begins.
	MoveUndoing MoveState = "undoing"
	// MoveUndone: it was brought back, or the move was dropped before it was made.
	MoveUndone MoveState = "undone"
)

// RebaseNote begins the note of what a rebase has set aside.
const RebaseNote = "before a rebase to "

// ErrOnIt: the board stands on the version that it is to move to.
var ErrOnIt = errors.New("it stands on that already")

// Conflicts says what becomes of what both changed.
type Conflicts string

// What to do about conflicts; "" refuses.
const (
	ConflictsBoard Conflicts = "board" // the board's holds
	ConflictsImage Conflicts = "image" // the new version's holds
)

// Move is a board's last rebase: to come, on trial, or what came of it. The new upper and
// what the board had are both slots until it is settled which of them stays.
type Move struct {
	// Batch numbers the batch that the move belongs to.
	Batch int       `json:"batch,omitempty"`
	State MoveState `json:"state"`
	// Since is when the state was entered, Why the reason when it is not the plan.
	Since time.Time `json:"since"`
	Why   string    `json:"why,omitempty"`
	// From is the version that the board had, To that it moves to, of the layers in Layers.
	From      imageref.Ref `json:"from"`
	To        imageref.Ref `json:"to"`
	Layers    []string     `json:"layers"`
	Conflicts Conflicts    `json:"conflicts,omitempty"`
	// Slot is the one that was made for the move, Former that with what the board had;
	// 0: not there yet, or not any more.
	Slot   int `json:"slot,omitempty"`
	Former int `json:"former,omitempty"`
	// Snapshot is the former slot after a good move, and the move's own after it was
	// taken back; 0: none.
	Snapshot int `json:"snapshot,omitempty"`
	// Written is the newest change in the former upper when the new one was made of it.
	Written time.Time `json:"written,omitzero"`
	// Reports says that the new root has the unit that reports a boot.
	Reports bool `json:"reports,omitempty"`
	// Starts counts the boots that began on the new root, Failures those that failed.
	Starts   int `json:"starts,omitempty"`
	Failures int `json:"failures,omitempty"`
	// Overdue is when a boot on trial was under way for longer than one may be; Why says
	// which. It is nothing any more when another boot begins.
	Overdue time.Time `json:"overdue,omitzero"`
}

// IsOver says that nothing more happens to the board because of the move.
func (m *Move) IsOver() bool {
	return !slices.Contains([]MoveState{MovePending, MoveTrial, MoveUndoing}, m.State)
}

// maxWhy bounds a reason, in bytes: it may have a path of the board's, which is as long as the
// board made it, and a record that is too large is not read again.
const maxWhy = 1 << 10

// Enter changes the state.
func (m *Move) Enter(s MoveState, why string, now time.Time) {
	if len(why) > maxWhy {
		why = why[:maxWhy/2] + " ... " + why[len(why)-maxWhy/2:]
	}
	m.State, m.Why, m.Since, m.Overdue = s, strings.ToValidUTF8(why, "?"), now.UTC(), time.Time{}
}

// isKept says that the board is to stand on the new slot, as far as is known.
func (m *Move) isKept() bool {
	return m.State == MoveTrial || m.State == MoveGood || m.State == MoveMade || m.State == MoveUndoing
}

// isTaken says that the board is to stand on what it had.
func (m *Move) isTaken() bool { return m.State == MoveBack || m.State == MoveUndone }

// Dictated is the slot that a boot gets because of the board's move; nil: the usual rules hold.
func (r *Record) Dictated() *Slot {
	m := r.Move
	if m == nil || m.Slot == 0 || m.Former == 0 {
		return nil
	}
	n := 0
	switch {
	case m.isKept():
		n = m.Slot
	case m.isTaken():
		n = m.Former
	}
	return r.Slot(n)
}

// isLeft says that a slot is neither what the board boots nor to be taken up again: it
// is to be a snapshot.
func (r *Record) isLeft(s *Slot) bool {
	if s.Aside != "" {
		return true
	}
	d := r.Dictated()
	return d != nil && d.N != s.N && !r.IsOn(s) && (s.N == r.Move.Slot || s.N == r.Move.Former)
}

// mayReturn says that a board on trial may come back to slot n.
func (r *Record) mayReturn(n int) bool {
	return r.Move != nil && r.Move.State == MoveTrial && r.Move.Former == n
}

// IsOffer says that the board has not mounted the slot that it is to try.
func (r *Record) IsOffer() bool {
	s := r.Slot(r.Move.Slot)
	return r.Move.State == MoveTrial && s != nil && s.Mounted.IsZero()
}

// Offers says that slot n was made for a move, and the board has not mounted it: what is
// in it can be made again.
func (r *Record) Offers(n int) bool { return r.Move != nil && r.Move.Slot == n && r.IsOffer() }

// OfferMove notes slot n, which is in the record, as what the board is to try.
func (r *Record) OfferMove(n, former int, now time.Time) {
	r.Move.Slot, r.Move.Former = n, former
	r.Move.Enter(MoveTrial, "", now)
}

// mounted takes note that the board stands on slot n.
func (r *Record) mounted(n int, now time.Time) {
	m := r.Move
	if m == nil {
		return
	}
	switch {
	case m.State == MoveTrial && n == m.Slot && !m.Reports:
		r.settle(MoveMade, now)
	case m.isTaken() && n == m.Former && m.Slot != 0:
		r.Leave()
	}
}

// settle ends a trial: the board stays on the new slot, and all else that it wrote goes aside.
func (r *Record) settle(st MoveState, now time.Time) {
	r.Move.Enter(st, "", now)
	for _, s := range r.Persistent() {
		if s.N != r.Move.Slot {
			r.setAsideLater(s.N, RebaseNote+r.Move.To.String())
		}
	}
	r.setAsideLater(r.Move.Former, RebaseNote+r.Move.To.String())
}

// setAsideLater marks a slot to become a snapshot once nothing stands on it.
func (r *Record) setAsideLater(n int, note string) {
	s := r.Slot(n)
	if s == nil || r.IsOn(s) || s.Aside != "" {
		return
	}
	if s.Aside = note; s.State == SlotCurrent {
		s.State = SlotParked // it was cut off
	}
}

// IsOn says that the board stands on a slot.
func (r *Record) IsOn(s *Slot) bool { return s.State == SlotCurrent && r.Up }

// asideNote is the note of what a move that was taken back had written.
func (m *Move) asideNote() string {
	if m.State == MoveBack {
		return fmt.Sprintf("of the trial of %s, which was not good", m.To)
	}
	return fmt.Sprintf("before the rebase to %s was undone", m.To)
}

// MakeRoom readies the record for another move. It says whether the last one is over, as
// far as the slots are concerned.
func (r *Record) MakeRoom() bool {
	m := r.Move
	switch {
	case m == nil:
		return true
	case m.State == MoveTrial || m.State == MoveUndoing:
		return false
	case m.isTaken() && m.Slot != 0:
		if r.IsOn(r.Slot(m.Slot)) {
			return false
		}
		r.Leave()
	}
	return true
}

// TakeBack has the board boot what it had. A new slot that it never mounted goes when
// that boot is planned.
func (r *Record) TakeBack(st MoveState, why string, now time.Time) {
	r.Move.Enter(st, why, now)
	if s := r.Slot(r.Move.Former); s != nil {
		s.Aside = ""
	}
}

// Leave has the slot of a move that was taken back set aside, if the board is not on it.
func (r *Record) Leave() { r.setAsideLater(r.Move.Slot, r.Move.asideNote()) }

// Needs says that snapshot n is what the board boots next: a move that is being undone brings
// it back.
func (m *Move) Needs(n int) bool { return m != nil && m.State == MoveUndoing && m.Snapshot == n }

// Gone takes note that a slot is no more; snapshot is what became of it, 0: nothing.
func (m *Move) Gone(n, snapshot int) {
	switch n {
	case 0:
	case m.Slot:
		m.Slot = 0
		if m.State == MoveTrial { // nobody came for it, or it was made of what changed since
			m.State, m.Former = MovePending, 0
		}
		if m.isTaken() {
			m.Snapshot = snapshot
		}
	case m.Former:
		m.Former = 0
		if !m.isTaken() {
			m.Snapshot = snapshot
		}
	}
}

// Judge says what the boot before comes to for the board's trial: was is the slot that it
// was given, failed that its kernel ran and nothing was reported. tries is how many such boots
// in a row are too many; 0: any number may fail. It says whether anything changed.
func (r *Record) Judge(was int, good, failed bool, tries int, now time.Time) bool {
	m := r.Move
	if m == nil || m.State != MoveTrial || m.Slot == 0 || was != m.Slot {
		return false
	}
	if !m.Overdue.IsZero() { // that boot is over
		m.Overdue, m.Why = time.Time{}, ""
	}
	switch {
	case good:
		r.settle(MoveGood, now)
		return true
	case failed:
		m.Failures++
	}
	m.Starts++
	switch {
	case tries == 0 || !m.Reports:
	case m.Failures >= tries:
		r.TakeBack(MoveBack, fmt.Sprintf("it booted there %s and was not reported as good", times(m.Failures)), now)
	case m.Starts >= tries*startsPerTry:
		r.TakeBack(MoveBack, fmt.Sprintf("it began to boot there %s and was never good", times(m.Starts)), now)
	}
	return true
}

// Hangs takes note that the boot on trial, of slot was and begun at begun, is under way for
// longer than within: nobody waits for it any more, though it may be good yet. The board
// goes back only when it boots again. It says whether that is news.
func (r *Record) Hangs(was int, begun time.Time, within time.Duration, now time.Time) bool {
	m := r.Move
	if m == nil || m.State != MoveTrial || m.Slot == 0 || was != m.Slot || !m.Overdue.IsZero() || within == 0 || now.Sub(begun) <= within {
		return false
	}
	not := "is not reported as good"
	if !m.Reports {
		not = "has not mounted its root"
	}
	m.Overdue = now.UTC()
	m.Why = fmt.Sprintf("its boot that began at %s %s after %s", begun.Local().Format("2006-01-02 15:04"), not, spanText(within))
	return true
}

// spanText is a span as people write it: 30m, not 30m0s.
func spanText(d time.Duration) string {
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		return short + "m"
	}
	return text
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// startsPerTry is how many boots may begin, for each one that may fail, until one that
// never has its kernel whole counts too. One boot of a Pi 3 begins twice.
const startsPerTry = 5

// checkMove says what is contradictory in a record's move.
func (r *Record) checkMove() error {
	m := r.Move
	if m == nil {
		return nil
	}
	known := []MoveState{MovePending, MoveTrial, MoveGood, MoveMade, MoveBack, MoveFailed, MoveUndoing, MoveUndone}
	if !slices.Contains(known, m.State) {
		return fmt.Errorf("its move has the unknown state %q", m.State)
	}
	if m.To.Version == 0 {
		return fmt.Errorf("its move is to no version of an image")
	}
	for _, n := range []int{m.Slot, m.Former} {
		if n != 0 && r.Slot(n) == nil {
			return fmt.Errorf("its move speaks of slot %d, which is not there", n)
		}
	}
	if m.Slot != 0 && m.Slot == m.Former {
		return fmt.Errorf("its move is from slot %d to itself", m.Slot)
	}
	return nil
}

package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// noted waits until the daemon was asked for something.
func noted(t *testing.T, f *fake, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		said := strings.Join(f.calls, ", ")
		f.mu.Unlock()
		if strings.Contains(said, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon did %q, not %q", said, want)
		}
	}
}

// TestHold: a board is held until release, until its holder is gone, or until the daemon
// ends; and who held it hears of the last.
func TestHold(t *testing.T) {
	one := serial(t, "5b154510")
	f := &fake{}
	c, _, end := start(t, f)
	_, release, err := c.Hold(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	noted(t, f, "hold 5b154510")
	if err := release(); err != nil {
		t.Error(err)
	}
	noted(t, f, "hold 5b154510, release 5b154510")

	ctx, cancel := context.WithCancel(t.Context())
	if _, _, err := c.Hold(ctx, one); err != nil {
		t.Fatal(err)
	}
	if err := c.do(t.Context(), "POST", "release", token{Token: "another"}, nil); !IsKind(err, KindBusy) {
		t.Errorf("released what is not held: %v", err)
	}
	cancel() // as when the process is killed
	noted(t, f, "hold 5b154510, release 5b154510, hold 5b154510, release 5b154510")

	if _, release, err = c.Hold(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	end()
	noted(t, f, "release 5b154510, hold 5b154510, release 5b154510, hold 5b154510, release 5b154510")
	if err := release(); err == nil {
		t.Error("the daemon ended while it held a board, and nobody was told")
	}
}

// TestHoldGivesWay: when the board boots, its holder hears of it at once.
func TestHoldGivesWay(t *testing.T) {
	f := &fake{}
	c, _, _ := start(t, f)
	held, release, err := c.Hold(t.Context(), serial(t, "5b154510"))
	if err != nil {
		t.Fatal(err)
	}
	noted(t, f, "hold 5b154510")
	f.boots()
	<-held.Done()
	if err := release(); !IsKind(err, KindBoots) || !IsKind(context.Cause(held), KindBoots) {
		t.Errorf("released with %v, after %v", err, context.Cause(held))
	}
	noted(t, f, "hold 5b154510, release 5b154510")
}

func TestHoldRefused(t *testing.T) {
	f := &fake{err: Errorf(KindNotFound, "no such board")}
	c, _, _ := start(t, f)
	if _, _, err := c.Hold(t.Context(), serial(t, "5b154510")); !IsKind(err, KindNotFound) {
		t.Errorf("held what is not there: %v", err)
	}
	f.err = errors.New("broken")
	if _, err := c.TakeIn(t.Context(), serial(t, "5b154510"), ".restore-x"); !IsKind(err, KindInternal) {
		t.Errorf("took in with %v", err)
	}
	f.err = nil
	if in, err := c.TakeIn(t.Context(), serial(t, "5b154510"), ".restore-x"); err != nil || !in.New || in.Snapshots != 2 {
		t.Errorf("took in %+v, %v", in, err)
	}
}

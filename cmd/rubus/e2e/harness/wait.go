package harness

import (
	"fmt"
	"testing"
	"time"
)

// Patience is how many times longer than usual a machine may take that is slow, or busy
// with other things: what is waited for comes, or never.
const Patience = 4

// Until polls until ok has no error; a while after the limit, which is what it takes
// at most on a machine at rest, it fails the test with the last one.
func Until(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	if err := Poll(t, Patience*limit, ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Poll is Until without the verdict, and with no patience.
func Poll(t testing.TB, limit time.Duration, ok func() error) error {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			return err
		}
	}
}

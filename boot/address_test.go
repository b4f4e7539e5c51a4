package boot_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"rubus/nfsexport"
)

// Boards whose addresses nobody has any more are asked for at once: a rack that lost its
// power does not keep the others waiting for one board after the other.
func TestAddressesAtOnce(t *testing.T) {
	l := newLab(t)
	for _, x := range []nfsexport.Export{l.boots(serialA, macA, addrA), l.boots(serialB, macB, addrB)} {
		x.Activity.LastCall.Store(l.clock.now().UnixNano())
	}
	var both sync.WaitGroup
	both.Add(2)
	met := make(chan struct{})
	go func() {
		both.Wait()
		close(met)
	}()
	l.link.set(func(k *link) {
		k.beforeOwner = func(ctx context.Context) {
			both.Done()
			select {
			case <-met:
			case <-ctx.Done():
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l.fleet.LookAfter(ctx)
	if ctx.Err() != nil {
		t.Fatal("one address was waited for before the other was asked for")
	}
	select {
	case <-met:
	default:
		t.Fatal("not both addresses were asked for")
	}
}

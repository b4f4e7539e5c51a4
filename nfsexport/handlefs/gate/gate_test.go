package gate

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGate walks through what one caller after the other is told.
func TestGate(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, steps := range map[string]func(t *testing.T, g *Gate){
		"open": func(t *testing.T, g *Gate) {
			for range 3 {
				enters(t, g, true)
			}
		},
		"held when empty": func(t *testing.T, g *Gate) {
			holds(t, g, ended, nil) // there is nobody to wait for
			enters(t, g, false)
			enters(t, g, false)
			g.Open()
			enters(t, g, true)
		},
		"held twice at a time": func(t *testing.T, g *Gate) {
			holds(t, g, t.Context(), nil)
			if err := g.Hold(t.Context()); err == nil {
				t.Error("a second one holds it, too")
			}
			enters(t, g, false)
			g.Open()
			enters(t, g, true)
			g.Leave()
			holds(t, g, t.Context(), nil)
		},
		"a hold that gives up": func(t *testing.T, g *Gate) {
			enters(t, g, true)
			holds(t, g, ended, context.Canceled)
			enters(t, g, true)
			g.Leave()
			g.Leave()
			holds(t, g, t.Context(), nil)
		},
		"who was refused is not waited for": func(t *testing.T, g *Gate) {
			holds(t, g, t.Context(), nil)
			for range 3 {
				enters(t, g, false)
			}
			g.Open()
			holds(t, g, ended, nil)
		},
	} {
		t.Run(name, func(t *testing.T) { steps(t, New()) })
	}
}

func enters(t *testing.T, g *Gate, want bool) {
	t.Helper()
	if got := g.Enter(); got != want {
		t.Fatalf("a call may come in: %v, want %v", got, want)
	}
}

func holds(t *testing.T, g *Gate, ctx context.Context, want error) {
	t.Helper()
	if err := g.Hold(ctx); !errors.Is(err, want) {
		t.Fatalf("holding: %v, want %v", err, want)
	}
}

// TestHoldWaits: a hold waits for whoever is inside, and for the last of them.
func TestHoldWaits(t *testing.T) {
	g := New()
	enters(t, g, true)
	enters(t, g, true)
	held := make(chan error, 1)
	go func() { held <- g.Hold(t.Context()) }()
	for g.Enter() { // until it waits
		g.Leave()
		runtime.Gosched()
	}
	g.Leave()
	select {
	case <-held:
		t.Fatal("it is held while a call is inside")
	default:
	}
	g.Leave()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
}

// TestGateTogether: with many at the gate, nobody is ever inside while it is held.
func TestGateTogether(t *testing.T) {
	g := New()
	var inside atomic.Int64
	stop := make(chan struct{})
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if g.Enter() {
					inside.Add(1)
					runtime.Gosched()
					inside.Add(-1)
					g.Leave()
				}
				runtime.Gosched()
			}
		})
	}
	for range 500 {
		holds(t, g, t.Context(), nil)
		if n := inside.Load(); n != 0 {
			t.Errorf("%d calls inside a gate that is held", n)
		}
		runtime.Gosched()
		g.Open()
	}
	close(stop)
	calls.Wait()
}

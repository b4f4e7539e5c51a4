package meter_test

import (
	"slices"
	"testing"

	"rubus/images/importer/meter"
)

// What is told at a new phase is told before SetPhase returns, with the counters of that phase.
func TestPhases(t *testing.T) {
	var m meter.Meter
	var got []meter.Event
	stop := m.Report(func(e meter.Event) { got = append(got, e) })
	m.Came.Store(10)
	m.Coming.Store(20)
	m.Read.Store(1)
	m.Total.Store(2)
	m.Files.Store(3)
	for _, p := range []meter.Phase{meter.Fetching, meter.Unpacking, meter.Reading, meter.Syncing, meter.Joining, meter.Done} {
		want := meter.Event{Phase: p, Read: 1, Total: 2, Files: 3}
		if p == meter.Fetching || p == meter.Unpacking { // a stream that is kept
			want.Read, want.Total = 10, 20
		}
		m.SetPhase(p)
		if len(got) == 0 || got[len(got)-1] != want {
			t.Errorf("at %s: told %+v, want %+v last", p, got, want)
		}
	}
	stop()
	stop() // may be called again
	told := slices.Clone(got)
	m.Read.Store(9)
	if !slices.Equal(got, told) {
		t.Error("something was told after the end")
	}
}

// While nothing changes but the counters, it is told ten times a second; reading is what comes first.
func TestTicks(t *testing.T) {
	var m meter.Meter
	ticks := make(chan meter.Event)
	stop := m.Report(func(e meter.Event) {
		select {
		case ticks <- e:
		case <-t.Context().Done():
		}
	})
	m.Read.Store(1)
	if e := <-ticks; e != (meter.Event{Phase: meter.Reading, Read: 1}) {
		t.Errorf("told %+v", e)
	}
	m.Read.Store(2)
	for e := range ticks {
		if e.Read == 2 {
			break
		}
	}
	go func() {
		for range ticks { // what was about to be told
		}
	}()
	stop()
	close(ticks)
}

// Nobody wants to know.
func TestSilent(t *testing.T) {
	var m meter.Meter
	stop := m.Report(nil)
	m.SetPhase(meter.Done)
	stop()
	(&meter.Meter{}).SetPhase(meter.Done)
}

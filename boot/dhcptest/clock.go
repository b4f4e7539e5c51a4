package dhcptest

import (
	"slices"
	"time"
)

// Clock runs timers when it is told that time passes. It is for one goroutine.
type Clock struct {
	T      time.Time
	timers []*timer
}

type timer struct {
	at time.Time
	f  func()
}

// Now is the time.
func (c *Clock) Now() time.Time { return c.T }

// AfterFunc calls f when d has passed; stop cancels that.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	t := &timer{c.T.Add(d), f}
	c.timers = append(c.timers, t)
	return func() bool {
		i := slices.Index(c.timers, t)
		if i >= 0 {
			c.timers = slices.Delete(c.timers, i, i+1)
		}
		return i >= 0
	}
}

// Waiting is how many timers are set.
func (c *Clock) Waiting() int { return len(c.timers) }

// Pass lets time go by, timer by timer.
func (c *Clock) Pass(d time.Duration) {
	end := c.T.Add(d)
	for {
		slices.SortStableFunc(c.timers, func(a, b *timer) int { return a.at.Compare(b.at) })
		if len(c.timers) == 0 || c.timers[0].at.After(end) {
			break
		}
		t := c.timers[0]
		c.timers = c.timers[1:]
		c.T = t.at
		t.f()
	}
	c.T = end
}

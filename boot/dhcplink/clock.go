package dhcplink

import "time"

// Clock is the time, and timers.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in a goroutine of its own after d; stop cancels that.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// SystemClock is the real one.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// AfterFunc implements Clock.
func (SystemClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

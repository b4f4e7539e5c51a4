package nic

import "time"

// Link is where frames come from and go to. One goroutine uses it at a time.
type Link interface {
	// ReadFrame reads one frame. It blocks until there is one or the deadline
	// has passed, which is os.ErrDeadlineExceeded.
	ReadFrame(b []byte) (int, error)
	// WriteFrame sends one frame.
	WriteFrame(b []byte) error
	// SetReadDeadline bounds ReadFrame.
	SetReadDeadline(t time.Time) error
	// Checksums says whether checksums in frames that are read have been filled
	// in. A frame seen by a packet socket on its way from this very host may
	// not have them yet: the card would have done it.
	Checksums() bool
	// Close gives the link up.
	Close() error
}

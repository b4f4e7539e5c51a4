package tftp

import "time"

// Outcome is how a request ended.
type Outcome string

// The outcomes.
const (
	OK             Outcome = "ok"              // the client has the whole file; Err: it did not say so of the last block
	EarlyTerminate Outcome = "early-terminate" // the client only wanted to know that the file is there
	NotFound       Outcome = "not-found"
	Refused        Outcome = "refused"    // an ERROR was sent: a write, another mode, or the handler said so
	Silent         Outcome = "silent"     // not answered: the client is not known, or the handler said so
	Busy           Outcome = "busy"       // not answered: too many transfers
	Malformed      Outcome = "malformed"  // not answered: no request of TFTP
	Timeout        Outcome = "timeout"    // the client went away
	Aborted        Outcome = "aborted"    // the client gave up in the middle
	Superseded     Outcome = "superseded" // the client started anew from the same port
	Stopped        Outcome = "stopped"    // the server stopped
	Failed         Outcome = "failed"     // the file could not be opened or read
)

// Event is the end of one request.
type Event struct {
	Request  Request
	Outcome  Outcome
	Err      error         // says more; nil when Outcome says all
	Size     int64         // of the file, in bytes
	Bytes    int64         // that the client has confirmed
	Block    int           // bytes in a block
	Duration time.Duration // from the request on
	Retries  int           // packets sent again
	RTT      time.Duration // how long answers took, smoothed; 0: no packet was answered
}

package fakepi

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Kind is what an Event is about.
type Kind string

// Kinds of events.
const (
	KindDiscover Kind = "discover" // the board sent a DISCOVER
	KindOffer    Kind = "offer"    // an OFFER came
	KindRequest  Kind = "request"  // the board sent a REQUEST
	KindAck      Kind = "ack"      // an ACK or NAK came
	KindAddress  Kind = "address"  // the board has an address and a TFTP server
	KindProbe    Kind = "probe"    // a file was asked for and broken off
	KindRead     Kind = "read"     // a file was asked for
	KindNote     Kind = "note"     // anything worth a line
	KindStop     Kind = "stop"     // the board gave up
	KindEmulator Kind = "emulator" // something seen of the emulated board
)

// Outcome is how asking for a file ended.
type Outcome string

// Outcomes of probes and reads.
const (
	Found    Outcome = "found"    // it is there
	Expected Outcome = "expected" // it is missing, as it is on most boards
	Missing  Outcome = "missing"  // it is missing, and firmware would have used it
	Failed   Outcome = "failed"   // the transfer broke off
)

// Event is one thing that happened, in the order it did.
type Event struct {
	// At is the time since the board got power; Took how long it lasted.
	At, Took time.Duration
	// Stage is the firmware that ran: "rom", "bootcode.bin", "eeprom", ...
	Stage string
	Kind  Kind
	// From is the server of an offer or a file.
	From netip.Addr
	// File, Size (bytes read; of a probe, the size heard), Retries and Outcome
	// are set for files.
	File    string
	Size    int64
	Retries int
	Outcome Outcome
	// Text says the rest in words.
	Text string
}

// MarshalJSON gives times in milliseconds and leaves out what is empty.
func (e Event) MarshalJSON() ([]byte, error) {
	from := ""
	if e.From.IsValid() {
		from = e.From.String()
	}
	return json.Marshal(struct {
		At      float64 `json:"at_ms"`
		Took    float64 `json:"took_ms,omitempty"`
		Stage   string  `json:"stage,omitempty"`
		Kind    Kind    `json:"kind"`
		From    string  `json:"from,omitempty"`
		File    string  `json:"file,omitempty"`
		Size    int64   `json:"size,omitempty"`
		Retries int     `json:"retries,omitempty"`
		Outcome Outcome `json:"outcome,omitempty"`
		Text    string  `json:"text,omitempty"`
	}{ms(e.At), ms(e.Took), e.Stage, e.Kind, from, e.File, e.Size, e.Retries, e.Outcome, e.Text})
}

// ms is a duration in milliseconds with one decimal.
func ms(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)/(100*time.Microsecond)) / 10
}

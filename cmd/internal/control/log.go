package control

import (
	"context"
	"net/http"
	"strconv"

	"rubus/boot/flight"
	"rubus/config/device"
)

// BootLog is one boot of a board, and all that are recorded.
type BootLog struct {
	// Boots lists the recorded boots, the oldest first.
	Boots    []flight.Summary `json:"boots"`
	Timeline flight.Timeline  `json:"timeline"`
	Verdict  flight.Verdict   `json:"verdict"`
}

// bootLog answers for the boot that the query names; none: the latest.
func (s *server) bootLog(ctx context.Context, r *http.Request) (any, error) {
	return s.board(func(ctx context.Context, serial device.Serial) (any, error) {
		n := 0
		if q := r.URL.Query().Get("boot"); q != "" {
			var err error
			if n, err = strconv.Atoi(q); err != nil {
				return nil, Errorf(KindInvalid, "boot %q: want a number", q)
			}
		}
		return s.d.Log(ctx, serial, n)
	})(ctx, r)
}

// Log implements Daemon.
func (c *Client) Log(ctx context.Context, serial device.Serial, n int) (l BootLog, err error) {
	return l, c.do(ctx, http.MethodGet, "boards/"+serial.String()+"/log?boot="+strconv.Itoa(n), nil, &l)
}

package flow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// itsCalls prints what the board's kernel counted for its root.
const itsCalls = `grep -A 40 ' mounted on / with fstype nfs' /proc/self/mountstats`

// calls are what a boot asks of the NFS server, as the client counts.
type calls struct {
	options        string
	opens          int
	all            int // RPCs
	sent, received int // bytes
	by             map[string]int
}

// parseCalls reads mountstats of one file system (net/sunrpc/stats.c, fs/nfs/super.c).
func parseCalls(text string) (c calls, err error) {
	c.by = map[string]int{}
	ops := false
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "opts:":
			c.options = f[1]
		case len(f) > 5 && f[0] == "events:":
			c.opens, err = strconv.Atoi(f[5])
		case len(f) == 2 && f[0] == "per-op":
			ops = true
		case ops && len(f) > 5 && strings.HasSuffix(f[0], ":"):
			var n [5]int // operations, transmissions, timeouts, bytes sent, bytes received
			for i := range n {
				if n[i], err = strconv.Atoi(f[1+i]); err != nil {
					break
				}
			}
			c.by[strings.TrimSuffix(f[0], ":")] = n[0]
			c.all, c.sent, c.received = c.all+n[0], c.sent+n[3], c.received+n[4]
		case ops: // the next file system
			return c, err
		}
		if err != nil {
			return c, fmt.Errorf("%q: %w", line, err)
		}
	}
	return c, nil
}

// String names the procedures called most.
func (c calls) String() string {
	var names []string
	for name, n := range c.by {
		if n > 50 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return c.by[b] - c.by[a] })
	s := fmt.Sprintf("%d RPCs, %.1f MB sent, %.1f MB received:", c.all, float64(c.sent)/1e6, float64(c.received)/1e6)
	for _, name := range names {
		s += fmt.Sprintf(" %s %d", name, c.by[name])
	}
	return s
}

func TestParseCalls(t *testing.T) {
	c, err := parseCalls(`device 10.77.0.1:/c0ffee01/1 mounted on / with fstype nfs statvers=1.1
	opts:	rw,vers=3,hard,nolock
	events:	2747 62370 8 20 2440 794 64446 11
	per-op statistics
	        NULL: 1 1 0 44 24 44 12 62 0
	     GETATTR: 2747 2747 0 375064 307664 17389 163493 200030 0

device 10.77.0.1:/c0ffee01/1/boot/firmware mounted on /boot/firmware with fstype nfs statvers=1.1
	     GETATTR: 2747 2747 0 375064 307664 17389 163493 200030 0
`)
	if err != nil || c.all != 2748 || c.opens != 2440 || c.sent != 375108 || c.received != 307688 || c.options != "rw,vers=3,hard,nolock" {
		t.Errorf("%+v, %v", c, err)
	}
	if want := "2748 RPCs, 0.4 MB sent, 0.3 MB received: GETATTR 2747"; c.String() != want {
		t.Errorf("%q, want %q", c, want)
	}
}

// spares fails unless the board was spared what a root of its own need not ask.
func (c calls) spares(t *testing.T) {
	t.Helper()
	for _, option := range []string{"nocto", "acregmin=600", "acdirmax=600"} {
		if !strings.Contains(","+c.options+",", ","+option+",") {
			t.Errorf("the root is mounted with %s, without %s", c.options, option)
		}
	}
	if c.opens == 0 || c.by["GETATTR"] >= c.opens {
		t.Errorf("%d files were opened and GETATTR called %d times", c.opens, c.by["GETATTR"])
	}
}

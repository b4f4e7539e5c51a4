package survivors

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rubus/boot/record"
	"rubus/config/device"
)

// asker answers by address; who is not there is silent.
type asker map[netip.Addr]error

var errAlive = errors.New("alive")

func (a asker) Silent(_ context.Context, addr netip.Addr, _ device.MAC) (bool, error) {
	switch err := a[addr]; err {
	case errAlive:
		return false, nil
	default:
		return true, err
	}
}

func TestFind(t *testing.T) {
	addr, other := netip.MustParseAddr("10.77.0.20"), netip.MustParseAddr("10.77.0.21")
	for name, c := range map[string]struct {
		record string // "": none; what follows the serial otherwise
		asker  asker
		want   bool
	}{
		"it answers":            {`"up":true,"address":"10.77.0.20"`, asker{addr: errAlive}, true},
		"it is silent":          {`"up":true,"address":"10.77.0.20"`, nil, false},
		"nobody can tell":       {`"up":true,"address":"10.77.0.20"`, asker{addr: errors.New("no such network")}, true},
		"it has no address":     {`"up":true`, nil, true},
		"it was stopped":        {`"up":false,"address":"10.77.0.20"`, asker{addr: errAlive}, false},
		"another has its place": {`"up":true,"address":"10.77.0.20"`, asker{other: errAlive}, false},
		"its record is damaged": {`"up":tr`, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			dir := filepath.Join(state, "devices", "c0ffee01")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			text := `{"version":3,"serial":"c0ffee01",` + c.record + `,"slots":[]}`
			if err := os.WriteFile(filepath.Join(dir, record.File), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			found, err := Find(t.Context(), state, c.asker)
			if err != nil || (len(found) == 1) != c.want {
				t.Errorf("%v, %v; want it: %v", found, err, c.want)
			}
		})
	}
}

// Of many boards, more than are asked at once, all that answer are found, by serial.
func TestFindMany(t *testing.T) {
	state := t.TempDir()
	alive := asker{}
	var want []device.Serial
	for i := range 3 * atOnce {
		addr := netip.AddrFrom4([4]byte{10, 77, 0, byte(i)})
		serial, err := device.SerialFromUint32(0xc0ffee00 + uint32(i))
		r := record.Record{Version: record.Version, Serial: serial, Up: true, Address: addr}
		if err := errors.Join(err, record.Save(state, &r)); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			alive[addr] = errAlive
			want = append(want, r.Serial)
		}
	}
	if got, err := Find(t.Context(), state, alive); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if none, err := Find(t.Context(), t.TempDir(), nil); err != nil || len(none) != 0 {
		t.Errorf("of nothing: %v, %v", none, err)
	}
}

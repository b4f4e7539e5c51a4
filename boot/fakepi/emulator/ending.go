package emulator

import (
	"encoding/json"
	"io"
)

// ending is why QEMU ends, by its monitor (docs/interop/qmp-spec of QEMU's source, event SHUTDOWN of
// qapi/run-state.json): the console can't tell, since a reset comes before the kernel's last word is on it.
type ending struct {
	known chan struct{} // closed when QEMU is gone
	reset bool          // read it when known is closed
}

// listen follows the monitor until there is nothing more to read. Who began it closes it.
func listen(monitor io.ReadWriter) *ending {
	e := &ending{known: make(chan struct{})}
	go func() {
		defer close(e.known)
		// QEMU tells of events once it is told that it is understood.
		if _, err := io.WriteString(monitor, `{"execute":"qmp_capabilities"}`+"\n"); err != nil {
			return
		}
		for d := json.NewDecoder(monitor); ; {
			var m struct {
				Event string
				Data  struct{ Reason string }
			}
			if d.Decode(&m) != nil {
				return
			}
			if m.Event == "SHUTDOWN" {
				e.reset = m.Data.Reason == "guest-reset"
			}
		}
	}()
	return e
}

package doctor

// Level says how bad a finding is.
type Level string

// The levels.
const (
	// OK: looked at and found well.
	OK Level = "ok"
	// Note: worth knowing; nothing has to be done.
	Note Level = "note"
	// Warning: some boards may not boot, or something may go wrong later.
	Warning Level = "warning"
	// Failure: no board boots, or rubus does not start.
	Failure Level = "failure"
)

// Finding is one thing that was looked at.
type Finding struct {
	// Check names what was looked at, for scripts: "ports".
	Check string `json:"check"`
	Level Level  `json:"level"`
	// What was found; Why it matters and what to Do are empty when all is well.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	Do   string `json:"do,omitempty"`
}

// Failed says whether something must be mended before a board can boot.
func Failed(all []Finding) bool {
	for _, f := range all {
		if f.Level == Failure {
			return true
		}
	}
	return false
}

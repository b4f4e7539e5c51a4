package device

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Serial is the name of a board: the low 32 bits of the SoC serial number.
// It prints as 8 lower-case hex digits, the form the firmware puts before the
// names of the files it asks for. A Serial other than the zero value can only
// be made by parsing or from a number, so its text is safe as a path element.
//
// Serials are comparable and may be map keys. The zero value means "no serial".
type Serial struct{ n uint32 }

// ErrNoSerial says that a board's serial is zero, which no board has.
var ErrNoSerial = errors.New("serial is zero")

// ParseSerial reads a serial of 8 or 16 hex digits in any case. Of 16 digits
// (/proc/cpuinfo, /proc/device-tree/serial-number) the low 8 count.
func ParseSerial(s string) (Serial, error) {
	if len(s) != 8 && len(s) != 16 {
		return Serial{}, fmt.Errorf("serial %q has %d characters: want 8 or 16 hex digits, as in /proc/cpuinfo", s, len(s))
	}
	// ParseUint takes a sign or underscores in some forms; digits only here.
	if i := strings.IndexFunc(s, notHex); i >= 0 {
		return Serial{}, fmt.Errorf("serial %q has a character that is no hex digit: %q", s, s[i:i+1])
	}
	n, err := strconv.ParseUint(s[len(s)-8:], 16, 32)
	if err != nil {
		return Serial{}, fmt.Errorf("serial %q: %w", s, err)
	}
	return SerialFromUint32(uint32(n))
}

// SerialFromUint32 makes a Serial of the number a board sends on the wire.
func SerialFromUint32(n uint32) (Serial, error) {
	if n == 0 {
		return Serial{}, ErrNoSerial
	}
	return Serial{n}, nil
}

func notHex(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
}

// String is the serial as 8 lower-case hex digits; "" for the zero value.
func (s Serial) String() string {
	if s.IsZero() {
		return ""
	}
	return fmt.Sprintf("%08x", s.n)
}

// IsZero says that there is no serial.
func (s Serial) IsZero() bool { return s.n == 0 }

// Uint32 is the serial as a number.
func (s Serial) Uint32() uint32 { return s.n }

// Compare orders serials by number.
func (s Serial) Compare(t Serial) int {
	switch {
	case s.n < t.n:
		return -1
	case s.n > t.n:
		return 1
	}
	return 0
}

// PiMAC is the address that a Pi up to the 3 derives from its serial:
// b8:27:eb and the low 24 bits.
func (s Serial) PiMAC() MAC {
	return MAC{0xb8, 0x27, 0xeb, byte(s.n >> 16), byte(s.n >> 8), byte(s.n)}
}

// MarshalText implements encoding.TextMarshaler.
func (s Serial) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; empty text is the zero value.
func (s *Serial) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*s = Serial{}
		return nil
	}
	p, err := ParseSerial(string(b))
	if err != nil {
		return err
	}
	*s = p
	return nil
}

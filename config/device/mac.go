package device

import (
	"fmt"
	"net"
)

// MAC is an Ethernet address. It is comparable; the zero value means "none".
type MAC [6]byte

// ParseMAC reads aa:bb:cc:dd:ee:ff or aa-bb-cc-dd-ee-ff in any case. The zero
// address, multicast and broadcast are no board's and are refused.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 || len(s) != 17 {
		return MAC{}, fmt.Errorf("MAC address %q: want six hex pairs such as b8:27:eb:12:34:56", s)
	}
	m := MAC(hw)
	if m.IsZero() || m[0]&1 != 0 {
		return MAC{}, fmt.Errorf("MAC address %q is no board's: it is zero, multicast or broadcast", s)
	}
	return m, nil
}

// String is the address in lower case with colons; "" for the zero value.
func (m MAC) String() string {
	if m.IsZero() {
		return ""
	}
	return net.HardwareAddr(m[:]).String()
}

// IsZero says that there is no address.
func (m MAC) IsZero() bool { return m == MAC{} }

// HardwareAddr is the address as the net package has it.
func (m MAC) HardwareAddr() net.HardwareAddr { return append(net.HardwareAddr(nil), m[:]...) }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; empty text is the zero value.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	p, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = p
	return nil
}

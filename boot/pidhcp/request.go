package pidhcp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"rubus/boot/dhcplink"
	"rubus/config/device"
)

// piVendorClass is option 60 of every Pi's firmware. It claims to be an x86
// BIOS, which is why other PXE clients send it too.
const piVendorClass = "PXEClient:Arch:00000:UNDI:002001"

// romXID is the transaction id that every boot ROM and bootcode.bin of the
// Pi 1 to 3 sends: it identifies nothing.
const romXID = 0x26f30339

// ipxeEncapsulated is option 175, which only iPXE sends.
const ipxeEncapsulated = dhcpv4.GenericOptionCode(175)

// Kind is the program that sent a request; what it understands differs.
type Kind uint8

// The kinds of firmware.
const (
	// Pi3ROM is the mask ROM of a Pi 3B: no identity but its MAC, and bugs in
	// the timing and length of what it receives.
	Pi3ROM Kind = iota + 1
	// Bootcode is bootcode.bin (second stage, or from an SD card) of a Pi 1 to
	// 3, and the ROM of a 3B+.
	Bootcode
	// EEPROM is the flash bootloader of the Pi 4, 5 and their kin.
	EEPROM
)

// String is a constant for logs and metrics.
func (k Kind) String() string {
	switch k {
	case Pi3ROM:
		return "pi3-rom"
	case Bootcode:
		return "bootcode"
	case EEPROM:
		return "eeprom"
	}
	return "unknown"
}

// Request is one DHCP message of a Pi's boot firmware. It is comparable and
// holds nothing of the packet it was read from.
type Request struct {
	// Header has the MAC, which is all the identity that a Pi 3's ROM has. Only a
	// DISCOVER is answered by a proxy.
	dhcplink.Header
	// Kind is the firmware that asks.
	Kind Kind
	// Class says that option 60 was there. EEPROMs leave it out of a REQUEST.
	Class bool
	// Serial is the board's serial; zero when the firmware sends none (Pi3ROM).
	Serial device.Serial
	// Revision is the board's revision code; 0 when the firmware sends none.
	Revision device.Revision
	// GUID is option 97 as it was sent; zero when it was not.
	GUID [17]byte
	// Hint says that the maker of the card is all that speaks for a Pi.
	Hint bool
}

// Reason says why a packet is not a request of a Pi's firmware. It is an error
// and, being short and constant, a label for counting.
type Reason string

// The reasons. Parse returns nothing else.
const (
	// Malformed is no DHCP message at all, or a truncated one.
	Malformed Reason = "malformed DHCP message"
	// NotRequest is a message of a server, or of no type.
	NotRequest Reason = "not a client's message"
	// NotEthernet is a client without an Ethernet address of its own.
	NotEthernet Reason = "no Ethernet client address"
	// OtherSubnet came by a relay from a network that is not served.
	OtherSubnet Reason = "from a relay of another network"
	// NotPXE is an ordinary DHCP client.
	NotPXE Reason = "not a PXE client"
	// OtherPXE is a PXE client of another architecture, UEFI for example.
	OtherPXE Reason = "PXE client of another architecture"
	// IPXE is iPXE, whatever else it claims.
	IPXE Reason = "iPXE"
	// NoGUID is a PXE client without a proper option 97: no Pi.
	NoGUID Reason = "no option 97 of 17 bytes"
	// ForeignGUID is the UUID of a PC or a virtual machine.
	ForeignGUID Reason = "option 97 is no Raspberry Pi's"
)

// Error implements error.
func (r Reason) Error() string { return string(r) }

// Parse reads a DHCP message, the payload of a UDP datagram. An error is
// always a Reason.
func Parse(packet []byte, ouis device.OUIs) (Request, error) {
	m, err := dhcpv4.FromBytes(packet)
	if err != nil {
		return Request{}, Malformed
	}
	return FromMessage(m, ouis)
}

// FromMessage is Parse for a message that was taken apart. Messages of every
// type are read, because a Pi that sends a REQUEST is worth noting.
func FromMessage(m *dhcpv4.DHCPv4, ouis device.OUIs) (Request, error) {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.MessageType() == dhcpv4.MessageTypeNone {
		return Request{}, NotRequest
	}
	var r Request
	if err := checkVendor(m); err != nil {
		// What is no DISCOVER goes without option 60; option 97 has to do.
		if err != NotPXE || m.MessageType() == dhcpv4.MessageTypeDiscover || m.Options.Has(dhcpv4.OptionClassIdentifier) {
			return Request{}, err
		}
		if !m.Options.Has(dhcpv4.OptionClientMachineIdentifier) {
			return Request{}, NotPXE
		}
	} else {
		r.Class = true
	}
	var ok bool
	if r.Header, ok = dhcplink.HeaderOf(m); !ok {
		return Request{}, NotEthernet
	}
	params := m.Options.Get(dhcpv4.OptionParameterRequestList)
	guid := m.Options.Get(dhcpv4.OptionClientMachineIdentifier)
	reason := NoGUID
	if len(guid) == len(r.GUID) && guid[0] == 0 {
		r.GUID = [17]byte(guid)
		if r.identify(params) {
			return r, nil
		}
		reason = ForeignGUID
	}
	if !r.Class || !ouis.Has(r.MAC) {
		return Request{}, reason
	}
	// Whatever its option 97 says (a setting of EEPROMs), the card is a Pi's.
	r.Hint = true
	r.Kind, r.Serial, r.Revision = EEPROM, device.Serial{}, 0
	if r.XID == romXID || len(params) > 0 && params[0] == 43 {
		r.Kind = Bootcode
	}
	return r, nil
}

// checkVendor tells Pi firmware from other clients by what it does not hide.
func checkVendor(m *dhcpv4.DHCPv4) error {
	class := string(m.Options.Get(dhcpv4.OptionClassIdentifier))
	switch {
	case strings.Contains(string(m.Options.Get(dhcpv4.OptionUserClassInformation)), "iPXE"),
		m.Options.Has(ipxeEncapsulated):
		// iPXE on a PC claims the same architecture as a Pi.
		return IPXE
	case !strings.HasPrefix(class, "PXEClient"):
		return NotPXE
	case class != piVendorClass:
		return OtherPXE
	}
	return nil
}

// identify takes Kind, Serial and Revision out of option 97 and says whether
// it is a Pi's. MAC, XID and GUID are set. params is option 55.
func (r *Request) identify(params []byte) bool {
	id := r.GUID[1:]
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(id[4*i:]) }
	if word(0) == word(1) && word(1) == word(2) && word(2) == word(3) {
		return r.identifyRepeated(word(0), params)
	}
	// FourCC, revision, bytes 2 to 5 of the MAC, serial.
	rev, mac := device.Revision(word(1)), [4]byte(id[8:12])
	serial, err := device.SerialFromUint32(word(3))
	if err != nil || !rev.IsNewStyle() {
		return false
	}
	ours := mac == [4]byte(r.MAC[2:6])
	zero := mac == [4]byte{} // the EEPROM of 2020-03-04
	switch {
	case fourCCName(r.FourCC()) != "" && ours:
		// Certain, even if the board is newer than our list of types.
	case rev.Known() && (fourCCName(r.FourCC()) != "" || ours || zero):
		// The FourCC is a setting of the EEPROM (DHCP_OPTION97), and so is the
		// MAC: either may be anything.
	default:
		return false
	}
	r.Kind, r.Serial, r.Revision = EEPROM, serial, rev
	return true
}

// identifyRepeated reads the old form: one word, four times.
func (r *Request) identifyRepeated(word uint32, params []byte) bool {
	switch word {
	case 0, 0xffffffff:
		// "Not present" and "not set" of an SMBIOS UUID: a PC.
		return false
	case 0x44444444:
		r.Kind = Pi3ROM
		return true
	}
	r.Serial, _ = device.SerialFromUint32(word)
	// EEPROMs before 2020-03-04, or told to (DHCP_OPTION97=0), send this form
	// too. They ask for subnet and router first, as bootcode.bin does last.
	r.Kind = EEPROM
	if r.XID == romXID || r.MAC == r.Serial.PiMAC() || len(params) > 0 && params[0] == 43 {
		r.Kind = Bootcode
	}
	return true
}

// FourCC is the first word of option 97 as text on the wire; "" unless the
// firmware is an EEPROM that sends the structured form.
func (r Request) FourCC() string {
	if [4]byte(r.GUID[1:5]) == [4]byte(r.GUID[5:9]) {
		return ""
	}
	return string(r.GUID[1:5])
}

func fourCCName(s string) string {
	switch s {
	case "RPi4", "4iPR":
		return "4"
	case "RPi5", "5iPR":
		return "5"
	}
	return ""
}

// Bootloader says in words how old the board's bootloader is, as far as
// option 97 tells; "" when it tells nothing.
func (r Request) Bootloader() string {
	if r.Kind != EEPROM || r.Hint {
		return ""
	}
	cc := r.FourCC()
	zeroMAC := [4]byte(r.GUID[9:13]) == [4]byte{}
	switch {
	case cc == "":
		return "before 2020-03-04, or DHCP_OPTION97=0"
	case fourCCName(cc) == "4" && r.Revision.Processor() == 4:
		return "before 2023-10-30"
	case cc == "RPi4" && zeroMAC:
		return "2020-03-04"
	case cc == "RPi4":
		return "2020-03-16 to 2022-02-08"
	case cc == "4iPR":
		return "2022-02-04 or later"
	case cc == "5iPR":
		return "2023-10-30 or later"
	}
	return fmt.Sprintf("unknown: DHCP_OPTION97 is set to %q", cc)
}

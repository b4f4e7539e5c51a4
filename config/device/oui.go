package device

// OUI is the first half of an Ethernet address: its maker.
type OUI [3]byte

// OUIs are the makers whose cards are taken for a Pi's.
type OUIs []OUI

// PiOUIs are those that Raspberry Pi has been seen to use up to 2026.
func PiOUIs() OUIs {
	return OUIs{
		{0xb8, 0x27, 0xeb},
		{0xdc, 0xa6, 0x32},
		{0xe4, 0x5f, 0x01},
		{0x28, 0xcd, 0xc1},
		{0xd8, 0x3a, 0xdd},
		{0x2c, 0xcf, 0x67},
		{0x88, 0xa2, 0x9e},
	}
}

// Has says whether a card's maker is one of them.
func (o OUIs) Has(mac MAC) bool {
	for _, x := range o {
		if x == OUI(mac[:3]) {
			return true
		}
	}
	return false
}

package device

import "fmt"

// Revision is a board's revision code in the new style
// (NOQuuuWuFMMMCCCCPPPPTTTTTTTTRRRR, Raspberry Pi documentation,
// revision-codes.adoc). Bit 23 says that the code is of the new style.
type Revision uint32

// IsNewStyle says whether the fields of the code mean anything.
func (r Revision) IsNewStyle() bool { return r&(1<<23) != 0 }

// Type is the board's type field, such as 0x11 for a 4B.
func (r Revision) Type() byte { return byte(r >> 4) }

// Processor is the SoC: 0 BCM2835, 1 2836, 2 2837, 3 2711, 4 2712.
func (r Revision) Processor() byte { return byte(r>>12) & 0xf }

// MemoryMiB is the board's memory in MiB; 0 when the code is of the old style.
func (r Revision) MemoryMiB() int {
	if !r.IsNewStyle() {
		return 0
	}
	return 256 << ((r >> 20) & 7)
}

// Known says that the code is of the new style with a type and a processor
// that Raspberry Pi has assigned.
func (r Revision) Known() bool {
	return r.IsNewStyle() && typeName(r.Type()) != "" && r.Processor() <= 4
}

// String is the model, its board revision and memory: "4B 1.1 1 GiB".
func (r Revision) String() string {
	name := typeName(r.Type())
	if !r.IsNewStyle() || name == "" {
		return fmt.Sprintf("revision %06x", uint32(r))
	}
	mem := fmt.Sprintf("%d MiB", r.MemoryMiB())
	if m := r.MemoryMiB(); m >= 1024 {
		mem = fmt.Sprintf("%d GiB", m/1024)
	}
	return fmt.Sprintf("%s 1.%d %s", name, r&0xf, mem)
}

func typeName(t byte) string {
	switch t {
	case 0x00:
		return "A"
	case 0x01:
		return "B"
	case 0x02:
		return "A+"
	case 0x03:
		return "B+"
	case 0x04:
		return "2B"
	case 0x05:
		return "Alpha"
	case 0x06:
		return "CM1"
	case 0x08:
		return "3B"
	case 0x09:
		return "Zero"
	case 0x0a:
		return "CM3"
	case 0x0c:
		return "Zero W"
	case 0x0d:
		return "3B+"
	case 0x0e:
		return "3A+"
	case 0x10:
		return "CM3+"
	case 0x11:
		return "4B"
	case 0x12:
		return "Zero 2 W"
	case 0x13:
		return "400"
	case 0x14:
		return "CM4"
	case 0x15:
		return "CM4S"
	case 0x17:
		return "5"
	case 0x18:
		return "CM5"
	case 0x19:
		return "500"
	case 0x1a:
		return "CM5 Lite"
	case 0x1b:
		return "CM0"
	}
	return ""
}

package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// ErrNoTable says that there is no partition table.
var ErrNoTable = errors.New("there is no partition table")

// ErrCorrupt is wrapped by errors about a table that can't be so.
var ErrCorrupt = errors.New("the partition table is damaged")

func corrupt(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
}

// Partition is one entry of a table.
type Partition struct {
	// Number counts from 1, as in /dev/mmcblk0p1.
	Number int
	// Start and Size are in bytes.
	Start, Size int64
	// UUID is what PARTUUID= in /etc/fstab and root= means.
	UUID string
	// Name is what a GPT calls it.
	Name string
}

// Table is what a disk is divided into.
type Table struct {
	// Kind is "MBR" or "GPT".
	Kind       string
	Partitions []Partition
}

const (
	sector = 512
	// maxPartitions bounds the entries of a GPT and the chain of an MBR's logical partitions.
	maxPartitions = 256
)

// Read reads the table of a disk of size bytes. Partitions that lie, in part, behind
// the end are kept: whoever needs one says so.
func Read(r io.ReaderAt, size int64) (Table, error) {
	b := make([]byte, sector)
	if err := readAt(r, b, 0); err != nil {
		return Table{}, err
	}
	if binary.LittleEndian.Uint16(b[510:]) != 0xaa55 {
		return Table{}, ErrNoTable
	}
	signature := binary.LittleEndian.Uint32(b[0x1b8:])
	entries, err := parseMBR(b)
	if err != nil {
		return Table{}, err
	}
	for _, e := range entries {
		if e.kind == 0xee {
			return readGPT(r, size)
		}
	}
	t := Table{Kind: "MBR"}
	var extended int64
	for i, e := range entries {
		switch {
		case e.empty():
		case e.isExtended():
			if extended == 0 {
				extended = e.start
			}
		default:
			t.Partitions = append(t.Partitions, e.partition(i+1, 0, signature))
		}
	}
	if extended != 0 {
		logical, err := readLogical(r, extended, signature)
		if err != nil {
			return t, err
		}
		t.Partitions = append(t.Partitions, logical...)
	}
	if len(t.Partitions) == 0 {
		return t, ErrNoTable
	}
	return t, nil
}

// mbrEntry is one of the four of a sector, in sectors.
type mbrEntry struct {
	kind          byte
	start, length int64
}

func (e mbrEntry) empty() bool      { return e.kind == 0 || e.length == 0 }
func (e mbrEntry) isExtended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

func (e mbrEntry) partition(number int, base int64, signature uint32) Partition {
	return Partition{
		Number: number, Start: (base + e.start) * sector, Size: e.length * sector,
		UUID: fmt.Sprintf("%08x-%02x", signature, number),
	}
}

// parseMBR decodes the four entries: u8 status, three bytes of CHS, u8 type, three
// bytes of CHS, u32 first sector, u32 sectors. The boot sector of a file system
// has the same mark at its end, but no such entries.
func parseMBR(b []byte) ([4]mbrEntry, error) {
	var out [4]mbrEntry
	for i := range out {
		e := b[446+16*i:][:16]
		if e[0]&0x7f != 0 {
			return out, ErrNoTable
		}
		out[i] = mbrEntry{e[4], int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))}
		if !out[i].empty() && out[i].start == 0 {
			return out, ErrNoTable
		}
	}
	return out, nil
}

// readLogical follows the chain of logical partitions: each has a table of its
// own, with itself and the next one.
func readLogical(r io.ReaderAt, extended int64, signature uint32) ([]Partition, error) {
	var out []Partition
	b := make([]byte, sector)
	for at := extended; ; {
		if len(out) == maxPartitions {
			return nil, corrupt("the chain of logical partitions has no end")
		}
		if err := readAt(r, b, at*sector); err != nil {
			return nil, err
		}
		entries, err := parseMBR(b)
		if err != nil || binary.LittleEndian.Uint16(b[510:]) != 0xaa55 {
			return nil, corrupt("a logical partition has no table")
		}
		if !entries[0].empty() {
			out = append(out, entries[0].partition(5+len(out), at, signature))
		}
		if !entries[1].isExtended() || entries[1].length == 0 {
			return out, nil
		}
		next := extended + entries[1].start
		if next <= at {
			return nil, corrupt("the chain of logical partitions goes back")
		}
		at = next
	}
}

// readGPT reads the table of UEFI 2.10, chapter 5.3, for sectors of 512 bytes, or of 4096.
func readGPT(r io.ReaderAt, size int64) (Table, error) {
	for _, s := range []int64{sector, 4096} {
		b := make([]byte, sector)
		if err := readAt(r, b, s); err != nil {
			return Table{}, err
		}
		if string(b[:8]) == "EFI PART" {
			return parseGPT(r, b, s, size)
		}
	}
	return Table{}, corrupt("there is no GPT where the MBR says so")
}

func parseGPT(r io.ReaderAt, b []byte, s, size int64) (Table, error) {
	le := binary.LittleEndian
	length, sum := le.Uint32(b[12:]), le.Uint32(b[16:])
	if length < 92 || length > sector {
		return Table{}, corrupt("a GPT header of %d bytes", length)
	}
	clear(b[16:20])
	if crc32.ChecksumIEEE(b[:length]) != sum {
		return Table{}, corrupt("the checksum of the GPT header is wrong")
	}
	at, count, each := le.Uint64(b[72:]), le.Uint32(b[80:]), le.Uint32(b[84:])
	if count > maxPartitions || each < 128 || each > 4096 || at > uint64(size/s) {
		return Table{}, corrupt("a GPT of %d entries of %d bytes", count, each)
	}
	entries := make([]byte, int(count)*int(each))
	if err := readAt(r, entries, int64(at)*s); err != nil {
		return Table{}, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(b[88:]) {
		return Table{}, corrupt("the checksum of the GPT is wrong")
	}
	t := Table{Kind: "GPT"}
	for i := range int(count) {
		e := entries[i*int(each):][:128]
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if [16]byte(e[:16]) == ([16]byte{}) {
			continue
		}
		const most = 1 << 50 // keeps the sums below from overflowing
		if first == 0 || last < first || last > most {
			return t, corrupt("partition %d goes from sector %d to %d", i+1, first, last)
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: i + 1, Start: int64(first) * s, Size: int64(last-first+1) * s, UUID: guid(e[16:32]), Name: name(e[56:128]),
		})
	}
	if len(t.Partitions) == 0 {
		return t, ErrNoTable
	}
	return t, nil
}

// guid prints a GUID, whose first three parts are little-endian.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func name(b []byte) string {
	var u []uint16
	for ; len(b) > 1; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return corrupt("it lies behind the end")
	}
	return fmt.Errorf("reading the partition table: %w", err)
}

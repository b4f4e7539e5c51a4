package fat

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

const (
	entrySize = 32
	// maxDir is Microsoft's own limit for one directory, in bytes.
	maxDir = 65536 * entrySize

	attrVolume = 0x08
	attrDir    = 0x10
	attrLong   = 0x0f
	// lowerBase and lowerExt are Windows NT's note that a short name is lower case.
	lowerBase = 0x08
	lowerExt  = 0x10
)

// ReadDir reads a directory. Names are checked: none is empty, "." or "..", or
// holds "/" or NUL.
func (fs *FS) ReadDir(dir Entry) ([]Entry, error) {
	runs, err := fs.runs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory %q: %w", dir.Name, err)
	}
	var b []byte
	for _, r := range runs {
		if int64(len(b))+r.length > maxDir+fs.cluster {
			return nil, corrupt("directory %q has more than %d bytes", dir.Name, maxDir)
		}
		part := make([]byte, r.length)
		if err := readAt(fs.r, part, r.from); err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	out, err := parseDir(b)
	if fs.bits != 32 {
		for i := range out {
			out[i].first &= 0xffff // the rest is another field there
		}
	}
	return out, err
}

func parseDir(b []byte) ([]Entry, error) {
	var out []Entry
	var long longName
	for ; len(b) >= entrySize && b[0] != 0; b = b[entrySize:] {
		d := b[:entrySize]
		switch {
		case d[0] == 0xe5: // removed
			long.clear()
			continue
		case d[11]&0x3f == attrLong:
			long.add(d)
			continue
		case d[11]&attrVolume != 0:
			long.clear()
			continue
		}
		name := long.take(d)
		if name == "" {
			name = shortName(d)
		}
		if name == "." || name == ".." {
			continue
		}
		if name == "" || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return nil, corrupt("a name %q", name)
		}
		le := binary.LittleEndian
		e := Entry{
			Name: name, Dir: d[11]&attrDir != 0, Size: int64(le.Uint32(d[28:])),
			Time:  dosTime(le.Uint16(d[24:]), le.Uint16(d[22:])),
			first: uint32(le.Uint16(d[26:])) | uint32(le.Uint16(d[20:]))<<16,
		}
		if e.Dir {
			e.Size = 0
		}
		out = append(out, e)
	}
	return out, nil
}

// shortName is the name of eight and three characters.
func shortName(d []byte) string {
	part := func(b []byte, lower bool) string {
		var s strings.Builder
		for i, c := range b {
			if i == 0 && c == 0x05 { // stands for 0xe5, which would mean removed
				c = 0xe5
			}
			if lower && c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			if c >= 0x80 {
				// The code page is anybody's guess: a Pi asks for no such file.
				c = '_'
			}
			s.WriteByte(c)
		}
		return strings.TrimRight(s.String(), " ")
	}
	name, ext := part(d[:8], d[12]&lowerBase != 0), part(d[8:11], d[12]&lowerExt != 0)
	if ext != "" {
		name += "." + ext
	}
	return name
}

// longName collects the pieces of a long name, the last one of which comes first.
type longName struct {
	want  int // pieces to come
	sum   byte
	units []uint16
}

func (l *longName) clear() { *l = longName{} }

// add takes one piece: u8 number with a mark on the last one, 13 characters in
// three places, the checksum of the short name.
func (l *longName) add(d []byte) {
	const last, perPiece, maxPieces = 0x40, 13, 20
	n := int(d[0] &^ last)
	if d[0]&last != 0 {
		*l = longName{want: n, sum: d[13]}
	}
	if n == 0 || n > maxPieces || n != l.want || d[13] != l.sum {
		l.clear()
		return
	}
	l.want--
	piece := make([]uint16, 0, perPiece)
	for _, at := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := at[0]; i < at[1]; i += 2 {
			piece = append(piece, binary.LittleEndian.Uint16(d[i:]))
		}
	}
	l.units = append(piece, l.units...)
}

// take gives the long name of the short entry d, "" for none.
func (l *longName) take(d []byte) string {
	defer l.clear()
	if len(l.units) == 0 || l.want != 0 {
		return ""
	}
	sum := byte(0)
	for _, c := range d[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if sum != l.sum {
		return ""
	}
	for i, u := range l.units {
		if u == 0 {
			return string(utf16.Decode(l.units[:i]))
		}
	}
	return string(utf16.Decode(l.units))
}

func dosTime(date, clock uint16) time.Time {
	month, day := int(date>>5&15), int(date&31)
	if month == 0 || month > 12 || day == 0 {
		return time.Time{}
	}
	return time.Date(1980+int(date>>9), time.Month(month), day, int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}

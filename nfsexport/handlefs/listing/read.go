package listing

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/handlefs/rawfs"
)

const (
	// Small is how large a listing may grow, in bytes, before whoever reads it must have
	// the right to a large one.
	Small = 128 << 10
	// Large is the size beyond which a listing lets go of what is not asked for next.
	Large = 4 << 20
)

// Read reads the directory fd, from its beginning: all of it, or of one that takes more than
// most bytes, as a rule Large, what follows cookie. buf is what it is read into. claim is
// called before the listing grows beyond Small, as a rule more than once, and may block.
func (l *Listing) Read(fd int, buf []byte, cookie uint64, most int, claim func()) unix.Errno {
	var names strings.Builder
	var low, high uint64 // of the hashes that are kept
	high = math.MaxUint64
	small := true
	for {
		n, e := rawfs.ReadDir(fd, buf)
		if e != 0 {
			return e
		}
		if n == 0 {
			break
		}
		l.parse(buf[:n], &names, low, high)
		size := names.Len() + entrySize*len(l.ents)
		if size > Small {
			small = false
			claim()
		}
		if size > most {
			if l.after = cookie; cookie > crowded {
				low = cookie - crowded
			}
			high = l.halve(&names, low, high)
		}
	}
	l.names = names.String()
	if l.more || l.after != 0 { // what was let go of takes no room
		l.names, l.ents = strings.Clone(l.names), slices.Clone(l.ents)
	}
	l.order()
	if l.settled && small && !l.more && l.after == 0 {
		l.makeRuns()
	}
	return 0
}

// crowded is how many names of one hash a large directory may have and still be
// listed rightly: the cookies of such names reach beyond their hash.
const crowded = 64

// halve lets go of the entries with hashes below low and, when those are not half
// of all, of the upper half of the others. It gives the highest hash that is kept
// from now on.
func (l *Listing) halve(names *strings.Builder, low, high uint64) uint64 {
	l.names = names.String() // stays as it is
	l.sort()
	keep := l.ents[sort.Search(len(l.ents), func(i int) bool { return l.ents[i].Cookie >= low }):]
	if len(keep) > len(l.ents)/2 {
		keep = keep[:(len(keep)+1)/2]
		high, l.more = keep[len(keep)-1].Cookie, true
	}
	names.Reset()
	n := 0
	for _, d := range keep {
		name := l.Name(&d)
		d.off = uint32(names.Len())
		names.WriteString(name)
		l.ents[n] = d
		n++
	}
	l.names, l.ents = "", l.ents[:n]
	return high
}

// parse takes the entries of one getdents64. Those with hashes from low to high are kept.
func (l *Listing) parse(buf []byte, names *strings.Builder, low, high uint64) {
	ents, bytes := 0, 0
	var d rawfs.Dirent
	for rest, ok := d.Next(buf); ok; rest, ok = d.Next(rest) {
		ents++
		bytes += len(d.Name)
	}
	l.ents = slices.Grow(l.ents, ents)
	names.Grow(bytes)
	for rest, ok := d.Next(buf); ok; rest, ok = d.Next(rest) {
		switch string(d.Name) {
		case ".":
		case "..":
			l.parent = d.Ino
		default:
			if h := nameHash(d.Name); low <= h && h <= high {
				l.ents = append(l.ents, Entry{Ino: d.Ino, off: uint32(names.Len()), n: uint8(len(d.Name)), Type: d.Type, Cookie: h})
				names.Write(d.Name)
			}
		}
	}
}

// order sorts by hash and makes the hashes cookies: different ones, above those
// of the dots. Equal hashes are numbered in the order of their names.
func (l *Listing) order() {
	l.sort()
	last := uint64(CookieDotDot)
	for i := range l.ents {
		d := &l.ents[i]
		d.Cookie = max(d.Cookie, last+1)
		last = d.Cookie
	}
}

// sort sorts by hash, and by name where that is the same.
func (l *Listing) sort() {
	slices.SortFunc(l.ents, func(a, b Entry) int {
		if a.Cookie != b.Cookie {
			return cmp.Compare(a.Cookie, b.Cookie)
		}
		return cmp.Compare(l.Name(&a), l.Name(&b))
	})
}

// nameHash is 62 bits of FNV-1a, mixed: a cookie must be positive as a signed
// number of 64 bits, which is what client kernels make of it. It must never
// change: clients hold cookies across our restarts.
func nameHash(name []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h >> 2
}

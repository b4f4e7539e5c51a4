package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// ErrCorrupt is wrapped by errors about what can't be so on a sound file system.
var ErrCorrupt = errors.New("the FAT file system is damaged")

func corrupt(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
}

// maxTable bounds the table in memory, in bytes: 16 million clusters. A boot
// partition of 512 MiB with clusters of 512 bytes has a million.
const maxTable = 64 << 20

// FS is an open file system. Its methods may be called from several goroutines.
type FS struct {
	r       io.ReaderAt
	bits    int
	table   []byte
	count   uint32 // clusters, numbered from 2
	cluster int64  // bytes in one
	data    int64  // where cluster 2 lies
	root    []run  // the root directory of FAT12 and FAT16
	first   uint32 // its first cluster with FAT32
	label   string
	id      uint32
	left    atomic.Int64
}

// run is a stretch of the image, in bytes.
type run struct{ from, length int64 }

// Is says whether head, the first sector of something, begins a FAT file system.
func Is(head []byte) bool {
	_, err := parseBoot(head)
	return err == nil
}

// boot is what the first sector says.
type boot struct {
	sector, cluster  int64
	reserved, tables int64
	rootEntries      int64
	sectors          int64
	tableSectors     int64
	big              bool // FAT32's form of the rest
	rootCluster      uint32
	id               uint32
	label            string
}

func parseBoot(b []byte) (boot, error) {
	le := binary.LittleEndian
	if len(b) < 512 || le.Uint16(b[510:]) != 0xaa55 || b[0] != 0xeb && b[0] != 0xe9 {
		return boot{}, corrupt("it doesn't begin with a boot sector")
	}
	p := boot{
		sector: int64(le.Uint16(b[11:])), reserved: int64(le.Uint16(b[14:])), tables: int64(b[16]),
		rootEntries: int64(le.Uint16(b[17:])), sectors: int64(le.Uint16(b[19:])), tableSectors: int64(le.Uint16(b[22:])),
	}
	p.cluster = int64(b[13]) * p.sector
	if p.sectors == 0 {
		p.sectors = int64(le.Uint32(b[32:]))
	}
	at := 38 // where the extended boot signature, volume number and label lie
	if p.big = p.tableSectors == 0; p.big {
		p.tableSectors = int64(le.Uint32(b[36:]))
		p.rootCluster = le.Uint32(b[44:])
		at = 66
	}
	if b[at] == 0x28 || b[at] == 0x29 {
		p.id = le.Uint32(b[at+1:])
		p.label = string(b[at+5 : at+16])
	}
	switch {
	case p.sector < 512 || p.sector > 4096 || p.sector&(p.sector-1) != 0:
		return p, corrupt("sectors of %d bytes", p.sector)
	case b[13] == 0 || b[13]&(b[13]-1) != 0:
		return p, corrupt("%d sectors in a cluster", b[13])
	case p.reserved == 0 || p.tables == 0 || p.tables > 4 || p.tableSectors == 0 || p.sectors == 0:
		return p, corrupt("%d sectors, %d of them reserved, %d tables of %d", p.sectors, p.reserved, p.tables, p.tableSectors)
	}
	return p, nil
}

// Open reads the boot sector and the first table of the file system that r
// holds in its first size bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	head := make([]byte, 512)
	if err := readAt(r, head, 0); err != nil {
		return nil, err
	}
	p, err := parseBoot(head)
	if err != nil {
		return nil, err
	}
	if p.sectors > size/p.sector {
		return nil, corrupt("it says it has %d bytes, and there are %d: is it cut off?", p.sectors*p.sector, size)
	}
	rootSectors := (p.rootEntries*32 + p.sector - 1) / p.sector
	dataAt := p.reserved + p.tables*p.tableSectors + rootSectors
	if dataAt >= p.sectors {
		return nil, corrupt("there is no room for files")
	}
	fs := &FS{
		r: r, cluster: p.cluster, data: dataAt * p.sector, first: p.rootCluster, id: p.id,
		count: uint32((p.sectors - dataAt) * p.sector / p.cluster),
	}
	// The number of clusters alone decides, says Microsoft; mkfs.vfat may be told otherwise, and says
	// so by the form of the boot sector.
	switch {
	case p.big:
		fs.bits = 32
	case fs.count < 4085:
		fs.bits = 12
	default:
		fs.bits = 16
	}
	need := (int64(fs.count+2)*int64(fs.bits) + 7) / 8
	if need > p.tableSectors*p.sector || need > maxTable {
		return nil, corrupt("a table of %d sectors for %d clusters", p.tableSectors, fs.count)
	}
	fs.table = make([]byte, need)
	if err := readAt(r, fs.table, p.reserved*p.sector); err != nil {
		return nil, err
	}
	if !p.big {
		fs.root = []run{{(dataAt - rootSectors) * p.sector, rootSectors * p.sector}}
	}
	fs.left.Store(p.sectors*p.sector + 1<<20)
	fs.label = strings.TrimRight(p.label, " ")
	return fs, nil
}

// Label is the volume's name in the boot sector.
func (fs *FS) Label() string { return fs.label }

// ID is the volume's number, as /etc/fstab's UUID= has it: "1234-ABCD".
func (fs *FS) ID() string { return fmt.Sprintf("%04X-%04X", fs.id>>16, fs.id&0xffff) }

// next reads the table: what follows cluster n. ok is false at a chain's end.
func (fs *FS) next(n uint32) (uint32, bool) {
	var v, end uint32
	switch fs.bits {
	case 12:
		v = uint32(binary.LittleEndian.Uint16(fs.table[n+n/2:]))
		if n&1 != 0 {
			v >>= 4
		}
		v, end = v&0xfff, 0xff8
	case 16:
		v, end = uint32(binary.LittleEndian.Uint16(fs.table[2*n:])), 0xfff8
	default:
		v, end = binary.LittleEndian.Uint32(fs.table[4*n:])&0x0fffffff, 0x0ffffff8
	}
	return v, v < end
}

// chain follows the clusters from first on, and takes them from what is left.
func (fs *FS) chain(first uint32) ([]run, error) {
	var out []run
	for n, more, steps := first, true, uint32(0); more; n, more = fs.next(n) {
		if n < 2 || n >= fs.count+2 {
			return nil, corrupt("a chain leads to cluster %d of %d", n, fs.count)
		}
		if steps++; steps > fs.count {
			return nil, corrupt("a chain of clusters has no end")
		}
		if fs.left.Add(-fs.cluster) < 0 {
			return nil, corrupt("its files hold more than there is room for")
		}
		at := fs.data + int64(n-2)*fs.cluster
		if l := len(out) - 1; l >= 0 && out[l].from+out[l].length == at {
			out[l].length += fs.cluster
		} else {
			out = append(out, run{at, fs.cluster})
		}
	}
	return out, nil
}

// Entry is one file or directory.
type Entry struct {
	Name string
	Dir  bool
	Size int64
	// Time is that of the last write, which FAT keeps without a time zone, for even
	// seconds; it is taken for UTC. Zero: none is kept.
	Time time.Time

	first uint32
}

// Root is the root directory.
func (fs *FS) Root() Entry { return Entry{Dir: true, first: fs.first} }

// ID names the place of a directory: two entries with the same one are the same.
func (e Entry) ID() uint32 { return e.first }

func (fs *FS) runs(e Entry) ([]run, error) {
	switch {
	case e.Dir && e.first == 0 && fs.root != nil, e.Dir && e.first == fs.first && fs.root != nil:
		return fs.root, nil
	case e.first == 0:
		return nil, nil
	}
	return fs.chain(e.first)
}

// File is the content of a file.
type File struct {
	r    io.ReaderAt
	size int64
	runs []run
}

// Open opens the content of a file.
func (fs *FS) Open(e Entry) (*File, error) {
	runs, err := fs.runs(e)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", e.Name, err)
	}
	have := int64(0)
	for _, r := range runs {
		have += r.length
	}
	if have < e.Size {
		return nil, corrupt("%q has %d bytes and room for %d", e.Name, e.Size, have)
	}
	return &File{fs.r, e.Size, runs}, nil
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	var end error
	if rest := f.size - off; int64(len(b)) > rest {
		b, end = b[:rest], io.EOF
	}
	total := len(b)
	for _, r := range f.runs {
		if off >= r.length {
			off -= r.length
			continue
		}
		part := b[:min(int64(len(b)), r.length-off)]
		if err := readAt(f.r, part, r.from+off); err != nil {
			return 0, err
		}
		if b, off = b[len(part):], 0; len(b) == 0 {
			break
		}
	}
	return total, end
}

// NextData is off: FAT knows no holes.
func (f *File) NextData(off int64) int64 { return min(off, f.size) }

// Size is the length in bytes.
func (f *File) Size() int64 { return f.size }

func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return corrupt("it ends in the middle")
	}
	return fmt.Errorf("reading the FAT file system: %w", err)
}
